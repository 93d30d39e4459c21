// Full disks: a build ends with a clear error and no leftovers. The next build makes a complete
// image.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { startFakeCache } from '../support/fake-cache.ts'
import { mounted } from '../support/namespace.ts'
import { netimage } from '../support/netimage.ts'
import { parseObject } from '../support/netimage.ts'
import { cacheFiles } from '../support/synthetic.ts'
import { system, withWorkspace, type Setting } from './support/faults.ts'

suite('a full disk', { concurrency: 2 }, () => {
  /** Builds on a small disk, makes room, and builds again, all before the disk disappears. */
  const twice = `
    for round in first second; do
      status=0
      "$@" > "$logs/$round.out" 2> "$logs/$round.err" || status=$?
      echo $status > "$logs/$round.status"
      find "$small" -mindepth 1 -maxdepth 3 > "$logs/$round.left"
      mount -o remount,size=64m "$small"
    done
    set -- "$1" "$2" verify "$image" --json
    "$@" > "$logs/verify.out"
  `

  async function buildTwice(
    setting: Setting,
    small: string,
    megabytes: number,
    more: string[] = [],
  ) {
    const logs = setting.path('logs')
    mkdirSync(logs)
    mkdirSync(small, { recursive: true })
    const mount = `mount -t tmpfs -o size=${megabytes}m small "$1"`
    const through = [...mounted(mount, small), 'sh', '-euc', twice, 'sh']
    const env = { logs, small, image: setting.image }
    const run = await netimage(setting.args('--json', ...more), { through, env })
    assert.equal(run.status, 0, run.stderr)
    const read = (name: string) => readFileSync(join(logs, name), 'utf8')
    const left = (round: string) => read(`${round}.left`).split('\n').filter(Boolean)
    const { whole } = parseObject(read('verify.out'))
    assert.equal(whole, true)
    return { read, left }
  }

  // The system has six megabytes. With each of these sizes the disk is full in another step.
  for (const megabytes of [1, 3, 5]) {
    test(`for the pool (${megabytes} MB)`, () =>
      withWorkspace(async (setting) => {
        const { pool } = setting
        const { read, left } = await buildTwice(setting, pool, megabytes)
        assert.equal(read('first.status'), '1\n', read('first.err'))
        const { error } = parseObject(read('first.out'))
        assert.ok(typeof error === 'object' && error !== null && 'code' in error)
        assert.equal(error.code, 'disk-full', read('first.err'))
        assert.deepEqual(unfinished(left('first'), pool), [])
        assert.equal(read('second.status'), '0\n', read('second.err'))
        // Finished entries are not unpacked again.
        const finished = left('first').filter((path) => /\/trees\/[^/]+$/.test(path)).length
        const [, unpacked] = /unpacked and verified (\d+) path/.exec(read('second.err')) ?? []
        assert.equal(Number(unpacked), system.all.length - finished)
      }))
  }

  for (const [megabytes, more] of [
    [1, []],
    [4, []],
    [4, ['--format', 'tar']],
  ] as const) {
    test(`for the image (${megabytes} MB ${more.join(' ')})`, () =>
      withWorkspace(async (setting) => {
        const out = setting.path('out')
        const { read, left } = await buildTwice(setting, out, megabytes, [...more])
        assert.equal(read('first.status'), '1\n', read('first.err'))
        assert.match(read('first.err'), /the disk is full \(ENOSPC\) \[disk-full\]\n +Make room/)
        assert.deepEqual(left('first'), [])
        assert.equal(read('second.status'), '0\n', read('second.err'))
        assert.doesNotMatch(read('second.err'), /unpacked/)
      }))
  }

  test('for the downloads', () =>
    withWorkspace(async (setting) => {
      const { pool } = setting
      const cache = await startFakeCache(cacheFiles(system.all))
      try {
        const args = (...more: string[]) => setting.from(cache.url, ...more)
        const { read, left } = await buildTwice({ ...setting, args }, pool, 2)
        assert.match(read('first.err'), /\[disk-full\]/)
        assert.deepEqual(unfinished(left('first'), pool), [])
        assert.equal(read('second.status'), '0\n', read('second.err'))
      } finally {
        await cache.close()
      }
    }))

  const unfinished = (left: string[], pool: string) =>
    left.filter((path) => /^\/(scratch|leases)\/./.test(path.slice(pool.length)))
})
