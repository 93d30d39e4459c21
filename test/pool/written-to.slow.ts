// Changed files in the pool are noticed, and no image gets them.

import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, lstatSync, readFileSync } from 'node:fs'
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { buildNetImage } from '../../src/index.ts'
import { assertWhole, failureOf, netimage } from '../support/netimage.ts'
import { parseObject } from '../support/netimage.ts'
import type { Workspace } from '../support/workspace.ts'
import {
  cacheDirectory,
  key,
  succeeds,
  system,
  withWorkspace,
  type Setting,
} from './support/faults.ts'

suite('a changed pool', { concurrency: 2 }, () => {
  const large = system.all.find(({ path }) => path.endsWith('-content-7'))
  assert.ok(large)
  const root = 'net-image/nixos-net-image-faults-x86_64-linux'
  const noiseIn = ({ image }: Workspace) => join(image, root, large.path, 'noise')

  const entryOf = ({ pool, pooled }: Workspace) => {
    const name = pooled().find((name) => large.narHash.endsWith(name))
    assert.ok(name)
    return join(pool, 'trees', name)
  }

  function damage(file: string): void {
    const mode = lstatSync(file).mode
    chmodSync(file, 0o644)
    appendFileSync(file, 'more')
    chmodSync(file, mode)
  }

  for (const link of ['hardlink', 'copy']) {
    test(`is noticed after a write through a hard link (--link ${link})`, () =>
      withWorkspace(async (setting) => {
        await succeeds(netimage(setting.args('--link', 'hardlink')))
        damage(noiseIn(setting))
        const second = { ...setting, image: setting.path('out', 'second') }
        const args = setting.args('--link', link, '-o', second.image, '--json')
        const run = await netimage(args)
        assert.equal(run.status, 4, run.stderr)
        const { code, message, hint } = failureOf(run)
        assert.equal(code, 'hash-mismatch')
        assert.match(message, /the pool’s copy of \S+-content-7 was changed/)
        assert.match(hint ?? '', /run the command again/)
        assert.deepEqual(setting.outputs(), ['image'])
        assert.deepEqual(setting.leftovers(), [])
        const { stderr } = await succeeds(netimage(args))
        assert.match(stderr, /^unpacked and verified 1 path/m)
        await assertWhole(second.image)
      }))

    test(`is noticed after a change of a mode (--link ${link})`, () =>
      withWorkspace(async (setting) => {
        await succeeds(netimage(setting.args('--link', 'hardlink')))
        chmodSync(noiseIn(setting), 0o640)
        const image = setting.path('out', 'second')
        const run = await netimage(setting.args('--link', link, '-o', image, '--json'))
        if (run.status === 0) await assertWhole(image)
        else assert.equal(failureOf(run).code, 'hash-mismatch')
      }))
  }

  test('from before the machine last started: whole entries are kept', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      const file = join(entryOf(setting), 'entry.json')
      const narSize = large.narSize
      writeFileSync(file, JSON.stringify({ narSize, bootId: 'another' }))
      const { stderr } = await succeeds(netimage(setting.args('--force')))
      assert.match(stderr, /^checked 1 path of the pool once more/m)
      assert.doesNotMatch(stderr, /unpacked and verified/)
      const again = await succeeds(netimage(setting.args('--force')))
      assert.doesNotMatch(again.stderr, /checked \d+ path/)
    }))

  test('from before the machine last started: an interrupted build loses nothing', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      const pooled = setting.pooled()
      for (const name of pooled) {
        const file = join(setting.pool, 'trees', name, 'entry.json')
        const { narSize } = parseObject(readFileSync(file, 'utf8'))
        writeFileSync(file, JSON.stringify({ narSize, bootId: 'another' }))
      }
      const breakOff = new AbortController()
      const building = buildNetImage({
        system: system.toplevel,
        output: setting.path('out', 'second'),
        pool: setting.pool,
        from: [`file://${cacheDirectory()}`],
        trustedPublicKeys: [key.publicKey],
        signal: breakOff.signal,
        progress: {
          begin(what) {
            if (what === 'checking the pool') breakOff.abort()
            return { update: () => undefined, end: () => undefined }
          },
          warn: () => undefined,
        },
      })
      await assert.rejects(building, { code: 'interrupted' })
      assert.equal(breakOff.signal.aborted, true)
      assert.deepEqual(setting.pooled(), pooled)
    }))

  /** Damages some entries. The next build must replace all of them. */
  async function replacesAll(
    setting: Setting,
    changes: Record<string, (entry: string) => void>,
  ): Promise<void> {
    await succeeds(netimage(setting.args()))
    const large = setting.pooled().filter((name) => {
      const entry = readFileSync(join(setting.pool, 'trees', name, 'entry.json'), 'utf8')
      return Number(parseObject(entry)['narSize']) > 300_000
    })
    for (const [index, change] of Object.values(changes).entries()) {
      change(join(setting.pool, 'trees', large[index] ?? ''))
    }
    const { stderr } = await succeeds(netimage(setting.args('--force')))
    const count = Object.keys(changes).length
    assert.match(stderr, new RegExp(`^unpacked and verified ${count} paths`, 'm'))
    await assertWhole(setting.image)
    const again = await succeeds(netimage(setting.args('--force')))
    assert.doesNotMatch(again.stderr, /unpacked|checked \d+ path/)
    await assertWhole(setting.image)
  }

  test('from before the machine last started: damaged entries are replaced', () => {
    const damages: Record<string, (tree: string) => void> = {
      'a byte more': (tree) => damage(join(tree, 'noise')),
      'cut off': (tree) => {
        chmodSync(join(tree, 'noise'), 0o644)
        writeFileSync(join(tree, 'noise'), '')
      },
      'a file too many': (tree) => {
        chmodSync(tree, 0o755)
        writeFileSync(join(tree, 'extra'), '')
      },
      gone: (tree) => {
        chmodSync(tree, 0o755)
        renameSync(tree, `${tree}-elsewhere`)
      },
    }
    const changes = Object.entries(damages).map(([what, change]) => [
      what,
      (entry: string) => {
        const file = join(entry, 'entry.json')
        writeFileSync(file, readFileSync(file, 'utf8').replace(/"bootId":"[^"]*"/, '"bootId":"x"'))
        change(join(entry, 'tree'))
      },
    ])
    return withWorkspace((setting) => replacesAll(setting, Object.fromEntries(changes)))
  })

  test('entries without a valid record are replaced', () => {
    // After a loss of power a file may have its name but not its content.
    const entries: Record<string, string | undefined> = {
      empty: '',
      'cut off': '{"narSize": 2',
      'of another size': JSON.stringify({ narSize: 1, bootId: 'another' }),
      gone: undefined,
    }
    const changes = Object.entries(entries).map(([what, text]) => [
      what,
      (entry: string) => {
        rmSync(join(entry, 'entry.json'))
        if (text !== undefined) writeFileSync(join(entry, 'entry.json'), text)
        damage(join(entry, 'tree/noise'))
      },
    ])
    return withWorkspace((setting) => replacesAll(setting, Object.fromEntries(changes)))
  })

  test('is an error if it is not a directory', () =>
    withWorkspace(async (setting) => {
      writeFileSync(setting.pool, '')
      const run = await netimage(setting.args('--json'))
      assert.equal(run.status, 1)
      assert.equal(failureOf(run).code, 'file-system')
      assert.match(failureOf(run).message, /could not open the pool/)
      assert.deepEqual(readdirSync(setting.path('out')), [])
    }))
})
