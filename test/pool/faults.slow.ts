// Parallel builds, garbage collection, and a failure: each ends with a complete image, or with a
// clear error and no leftovers. The *.slow.ts files here test full disks, Ctrl-C and a damaged pool.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { verifyImage } from '../../src/index.ts'
import { startFakeCache } from '../support/fake-cache.ts'
import { assertWhole, failureOf, netimage, startNetimage } from '../support/netimage.ts'
import { parseObject } from '../support/netimage.ts'
import { cacheFiles } from '../support/synthetic.ts'
import { waitFor } from '../support/waiting.ts'
import type { Workspace } from '../support/workspace.ts'
import { drip, succeeds, system, withWorkspace } from './support/faults.ts'

suite('parallel builds', { concurrency: 2 }, () => {
  test('in one pool', () =>
    withWorkspace(async (setting) => {
      const images = ['a', 'b', 'c'].map((name) => setting.path('out', name))
      await Promise.all(images.map((image) => succeeds(netimage(setting.args('-o', image)))))
      for (const image of images) await assertWhole(image)
      assert.equal(setting.pooled().length, system.all.length)
      assert.deepEqual(setting.leftovers(), [])
    }))

  test('after a build that was killed while it removed its scratch directory', () =>
    withWorkspace(async (setting) => {
      mkdirSync(setting.path('out', '.image.netimage-AbCdEf'), { recursive: true })
      await succeeds(netimage(setting.args()))
      assert.deepEqual(setting.leftovers(), [])
    }))

  test('of one image: one build succeeds, the others fail with an error', () =>
    withWorkspace(async (setting) => {
      const runs = await Promise.all([1, 2, 3].map(() => netimage(setting.args('--json'))))
      const won = runs.filter(({ status }) => status === 0)
      assert.equal(won.length, 1)
      for (const run of runs) {
        if (run.status !== 0) assert.equal(failureOf(run).code, 'output-exists', run.stderr)
      }
      await assertWhole(setting.image)
      assert.deepEqual(setting.leftovers(), [])
    }))

  test('of one image, with --force: all succeed, one after the other', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      for (let round = 0; round < 2; round++) {
        await Promise.all([1, 2, 3].map(() => succeeds(netimage(setting.args('--force')))))
        await assertWhole(setting.image)
        assert.deepEqual(setting.outputs(), ['image'])
        assert.deepEqual(setting.leftovers(), [])
      }
    }))
})

suite('garbage collection', { concurrency: 2 }, () => {
  const gc = async ({ pool }: Workspace, days: string) => {
    const run = await succeeds(netimage(['gc', '--pool', pool, '--keep-days', days, '--json']))
    return parseObject(run.stdout)
  }

  test('keeps what a running build needs', () =>
    withWorkspace(async (setting) => {
      let running = true
      const collecting = (async () => {
        let collections = 0
        for (; running; collections++) await gc(setting, '0')
        return collections
      })()
      try {
        for (let round = 0; round < 2; round++) {
          const images = ['a', 'b'].map((name) => setting.path('out', `${name}${round}`))
          await Promise.all(images.map((image) => succeeds(netimage(setting.args('-o', image)))))
          for (const image of images) {
            assert.deepEqual((await verifyImage({ image })).findings, [])
          }
        }
      } finally {
        running = false
        assert.ok((await collecting) > 1)
      }
      assert.deepEqual(setting.leftovers(), [])
      const { keptPaths } = await gc(setting, '0')
      assert.equal(keptPaths, 0)
      assert.deepEqual(setting.pooled(), [])
    }))

  test('depends on the last use of a path', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      const days = (count: number) => new Date(Date.now() - count * 24 * 60 * 60 * 1000)
      const old = setting.pooled().slice(0, 5)
      for (const name of old) utimesSync(join(setting.pool, 'trees', name), days(40), days(40))
      const sizes = old.map((name) => {
        const { narSize } = parseObject(
          readFileSync(join(setting.pool, 'trees', name, 'entry.json'), 'utf8'),
        )
        return Number(narSize)
      })
      const result = await gc(setting, '30')
      assert.deepEqual(result, {
        pool: setting.pool,
        removedPaths: old.length,
        removedBytes: sizes.reduce((sum, size) => sum + size, 0),
        keptPaths: system.all.length - old.length,
      })
      assert.deepEqual(
        setting.pooled().filter((name) => old.includes(name)),
        [],
      )
      assert.deepEqual(setting.leftovers(), [])

      // A build uses the entries that it finds, so they stay.
      for (const name of setting.pooled()) {
        utimesSync(join(setting.pool, 'trees', name), days(40), days(40))
      }
      const { stderr } = await succeeds(netimage(setting.args('--force')))
      assert.match(stderr, /^unpacked and verified 5 paths/m)
      const { removedPaths } = await gc(setting, '30')
      assert.equal(removedPaths, 0)
      await assertWhole(setting.image)
    }))

  test('does not change images, even if they share files with the pool', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args('--link', 'hardlink')))
      for (const name of setting.pooled()) utimesSync(join(setting.pool, 'trees', name), 1000, 1000)
      assert.equal((await gc(setting, '0'))['removedPaths'], system.all.length)
      await assertWhole(setting.image)
    }))

  test('of a missing pool removes nothing', () =>
    withWorkspace(async (setting) => {
      const { removedPaths, keptPaths } = await gc(setting, '0')
      assert.deepEqual([removedPaths, keptPaths], [0, 0])
      assert.ok(!existsSync(setting.pool))
    }))

  for (const days of ['-1', 'x', '', '1 day']) {
    test(`does not accept "${days}" as a number of days`, async () => {
      const run = await netimage(['gc', '--keep-days', days, '--pool', '/nowhere'])
      assert.equal(run.status, 2)
      assert.match(run.stderr, /Give a number of days, 0 or more/)
    })
  }
})

test('a failure does not wait for the other transfers', () =>
  withWorkspace(async (setting) => {
    let nars = 0
    const cache = await startFakeCache(cacheFiles(system.all), {
      lie({ name }, honest) {
        if (!name.startsWith('nar/')) return honest
        // The sixth NAR is missing, and all others would take forever.
        return ++nars === 6 ? { status: 404 } : { status: 200, body: drip() }
      },
    })
    try {
      const { child, ended } = startNetimage(setting.from(cache.url, '--json'))
      const run = await waitFor('the build ends', ended).finally(() => child.kill('SIGKILL'))
      assert.equal(failureOf(run).code, 'path-not-found')
      assert.deepEqual([...setting.outputs(), ...setting.leftovers()], [])
    } finally {
      await cache.close()
    }
  }))
