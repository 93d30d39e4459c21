// Full disks, builds beside each other, garbage collection, Ctrl-C, and a pool that something has
// written to: each ends in a whole image or in a clear error with nothing left behind.

import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, existsSync, lstatSync, mkdirSync, readFileSync } from 'node:fs'
import { readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before, suite, test } from 'node:test'
import { buildNetImage, verifyImage } from '../../src/index.ts'
import { startFakeCache, type Lie } from '../support/fake-cache.ts'
import { mounted } from '../support/namespace.ts'
import { assertWhole, failureOf, netimage, startNetimage, type Run } from '../support/netimage.ts'
import { parseObject } from '../support/netimage.ts'
import { cacheFiles, inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const key = makeKey('faults-1')
const system = inventLargeSystem('faults', { paths: 20, bytes: 300_000, keys: [key] })

type Setting = Workspace & {
  /** Builds from the cache in the directory, or from another. */
  args: (...more: string[]) => string[]
  from: (url: string, ...more: string[]) => string[]
}

let cacheWorkspace: Workspace
before(() => {
  cacheWorkspace = makeWorkspace('faults-cache')
  writeCache(cacheWorkspace.directory, system.all)
})
after(() => cacheWorkspace.remove())

async function withWorkspace(action: (setting: Setting) => Promise<void>): Promise<void> {
  const workspace = makeWorkspace('faults')
  const common = ['build', system.toplevel, '--trusted-public-keys', key.publicKey]
  const places = ['-o', workspace.image, '--pool', workspace.pool]
  const from = (url: string, ...more: string[]) => [...common, ...places, '--from', url, ...more]
  const args = (...more: string[]) => from(`file://${cacheWorkspace.directory}`, ...more)
  try {
    await action({ ...workspace, args, from })
  } finally {
    await workspace.remove()
  }
}

async function succeeds(run: Promise<Run>): Promise<Run> {
  const ended = await run
  assert.equal(ended.status, 0, ended.stderr)
  return ended
}

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

  // Six megabytes are unpacked: each size ends in another step.
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
        // What had been finished is not unpacked again.
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

suite('builds beside each other', { concurrency: 2 }, () => {
  test('in one pool', () =>
    withWorkspace(async (setting) => {
      const images = ['a', 'b', 'c'].map((name) => setting.path('out', name))
      await Promise.all(images.map((image) => succeeds(netimage(setting.args('-o', image)))))
      for (const image of images) await assertWhole(image)
      assert.equal(setting.pooled().length, system.all.length)
      assert.deepEqual(setting.leftovers(), [])
    }))

  test('after one that was killed while it removed what it worked in', () =>
    withWorkspace(async (setting) => {
      mkdirSync(setting.path('out', '.image.netimage-AbCdEf'), { recursive: true })
      await succeeds(netimage(setting.args()))
      assert.deepEqual(setting.leftovers(), [])
    }))

  test('for one place: one wins, the others say so', () =>
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

  test('for one place, with --force: all do, one after the other', () =>
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

  test('goes by when a path was last used', () =>
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

      // A build uses what it finds, which then stays.
      for (const name of setting.pooled()) {
        utimesSync(join(setting.pool, 'trees', name), days(40), days(40))
      }
      const { stderr } = await succeeds(netimage(setting.args('--force')))
      assert.match(stderr, /^unpacked and verified 5 paths/m)
      const { removedPaths } = await gc(setting, '30')
      assert.equal(removedPaths, 0)
      await assertWhole(setting.image)
    }))

  test('leaves images alone, also those that share files with the pool', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args('--link', 'hardlink')))
      for (const name of setting.pooled()) utimesSync(join(setting.pool, 'trees', name), 1000, 1000)
      assert.equal((await gc(setting, '0'))['removedPaths'], system.all.length)
      await assertWhole(setting.image)
    }))

  test('of a pool that is not there removes nothing', () =>
    withWorkspace(async (setting) => {
      const { removedPaths, keptPaths } = await gc(setting, '0')
      assert.deepEqual([removedPaths, keptPaths], [0, 0])
      assert.ok(!existsSync(setting.pool))
    }))

  for (const days of ['-1', 'x', '', '1 day']) {
    test(`does not take "${days}" for a number of days`, async () => {
      const run = await netimage(['gc', '--keep-days', days, '--pool', '/nowhere'])
      assert.equal(run.status, 2)
      assert.match(run.stderr, /It is no number of days/)
    })
  }
})

suite('Ctrl-C', { concurrency: 4 }, () => {
  /** Interrupts a build once the server was asked for something, and says how it ended. */
  async function interrupted(
    setting: Setting,
    moment: RegExp,
    lie: Lie,
    signal: NodeJS.Signals = 'SIGINT',
  ): Promise<void> {
    let reached: () => void = () => undefined
    const ready = new Promise<void>((resolve) => (reached = resolve))
    const cache = await startFakeCache(cacheFiles(system.all), {
      async lie(request, honest) {
        if (!moment.test(request.name)) return honest
        reached()
        return await lie(request, honest)
      },
    })
    try {
      const { child, ended } = startNetimage(setting.from(cache.url, '--json'))
      await waitFor('the build asks for that', Promise.race([ready, ended]))
      await assertInterrupted(setting, child.pid, ended, signal)
    } finally {
      await cache.close()
    }
  }

  async function assertInterrupted(
    setting: Setting,
    pid: number | undefined,
    ended: Promise<Run>,
    signal: NodeJS.Signals = 'SIGINT',
    images: string[] = [],
  ): Promise<void> {
    assert.ok(pid !== undefined)
    process.kill(pid, signal)
    const run = await waitFor('the build ends', ended)
    assert.equal(run.status, 130, run.stderr)
    assert.match(run.stderr, /^error: interrupted \[interrupted\]$/m)
    assert.equal(failureOf(run).code, 'interrupted')
    assert.deepEqual([...setting.outputs(), ...setting.leftovers()], images)
  }

  const silence: Lie = () => new Promise(() => undefined)

  test('while a cache does not answer what it is', () =>
    withWorkspace((setting) => interrupted(setting, /nix-cache-info/, silence)))
  test('while a narinfo does not come', () =>
    withWorkspace((setting) => interrupted(setting, /\.narinfo/, silence)))
  test('while a cache is asked again and again', () =>
    withWorkspace((setting) => interrupted(setting, /\.narinfo/, () => ({ status: 503 }))))
  test('while a NAR does not come', () =>
    withWorkspace((setting) => interrupted(setting, /^nar\//, silence)))
  test('while a NAR comes slowly', () =>
    withWorkspace((setting) =>
      interrupted(setting, /^nar\//, () => ({ status: 200, body: drip() })),
    ))
  test('by SIGTERM', () =>
    withWorkspace((setting) => interrupted(setting, /^nar\//, silence, 'SIGTERM')))

  /** In requests: half of the narinfos, half of the NARs, and the last NAR. */
  const [infos, nars, last] = [12, 34, 1 + 2 * system.all.length]
  for (const count of [infos, nars, last]) {
    test(`after ${count} requests, and again in what that left`, () =>
      withWorkspace(async (setting) => {
        let asked = 0
        let reached: () => void = () => undefined
        const cache = await startFakeCache(cacheFiles(system.all), {
          async lie(_, honest) {
            if (++asked === count) {
              reached()
              await new Promise(() => undefined)
            }
            return honest
          },
        })
        try {
          // The second build has a part of it in its pool, and asks for less.
          for (const left of ['nothing', 'a part']) {
            asked = 0
            const ready = new Promise<void>((resolve) => (reached = resolve))
            const { child, ended } = startNetimage(setting.from(cache.url, '--json'))
            await waitFor('the build asks so often', Promise.race([ready, ended]))
            if (asked >= count) await assertInterrupted(setting, child.pid, ended)
            else assert.equal(left, 'a part', (await ended).stderr)
          }
        } finally {
          await cache.close()
        }
      }))
  }

  test('while the image is made', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      // With all in the pool; the commands that fill the image stay until they are ended.
      const begun = setting.path('begun')
      const commands = ['--populate-root-commands', `echo begun > ${begun}; sleep 1000`]
      const { child, ended } = startNetimage(
        setting.args('--json', '-o', setting.path('out', 'other'), ...commands),
      )
      await waitUntil('the commands run', () => existsSync(begun))
      await assertInterrupted(setting, child.pid, ended, 'SIGINT', ['image'])
    }))
})

/** A transfer that goes on for ever, and never seems to be broken. */
async function* drip(): AsyncGenerator<Buffer> {
  for (;;) {
    yield Buffer.from('x')
    await delay(20)
  }
}

test('a failure does not wait for the transfers that are under way', () =>
  withWorkspace(async (setting) => {
    let nars = 0
    const cache = await startFakeCache(cacheFiles(system.all), {
      lie({ name }, honest) {
        if (!name.startsWith('nar/')) return honest
        // The sixth is not there, and all others would take for ever.
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

suite('a pool that something wrote to', { concurrency: 2 }, () => {
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
    test(`through a hard link is noticed (--link ${link})`, () =>
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
        assert.match(hint ?? '', /run this again/)
        assert.deepEqual(setting.outputs(), ['image'])
        assert.deepEqual(setting.leftovers(), [])
        const { stderr } = await succeeds(netimage(args))
        assert.match(stderr, /^unpacked and verified 1 path/m)
        await assertWhole(second.image)
      }))

    test(`so that a mode changed is noticed (--link ${link})`, () =>
      withWorkspace(async (setting) => {
        await succeeds(netimage(setting.args('--link', 'hardlink')))
        chmodSync(noiseIn(setting), 0o640)
        const image = setting.path('out', 'second')
        const run = await netimage(setting.args('--link', link, '-o', image, '--json'))
        if (run.status === 0) await assertWhole(image)
        else assert.equal(failureOf(run).code, 'hash-mismatch')
      }))
  }

  test('before the machine last started: what is whole is kept', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      const file = join(entryOf(setting), 'entry.json')
      const narSize = large.narSize
      writeFileSync(file, JSON.stringify({ narSize, bootId: 'another' }))
      const { stderr } = await succeeds(netimage(setting.args('--force')))
      assert.match(stderr, /^checked 1 path of the pool once more/m)
      assert.doesNotMatch(stderr, /unpacked and verified/)
      const again = await succeeds(netimage(setting.args('--force')))
      assert.doesNotMatch(again.stderr, /checked/)
    }))

  test('before the machine last started: whoever breaks off loses nothing', () =>
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
        from: [`file://${cacheWorkspace.directory}`],
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

  /** Does something to each of some entries, and lets the build that follows replace them all. */
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
    assert.doesNotMatch(again.stderr, /unpacked|checked/)
    await assertWhole(setting.image)
  }

  test('before the machine last started: what is not whole is replaced', () => {
    const damages: Record<string, (tree: string) => void> = {
      'a byte more': (tree) => damage(join(tree, 'noise')),
      'cut off': (tree) => {
        chmodSync(join(tree, 'noise'), 0o644)
        writeFileSync(join(tree, 'noise'), '')
      },
      'a file too many': (tree) => {
        chmodSync(tree, 0o755)
        writeFileSync(join(tree, 'stray'), '')
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

  test('entries that say nothing of their trees do not count, and are replaced', () => {
    // A machine that lost power may have kept a name and lost what was in the file.
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

  test('that is no directory is an error', () =>
    withWorkspace(async (setting) => {
      writeFileSync(setting.pool, '')
      const run = await netimage(setting.args('--json'))
      assert.equal(run.status, 1)
      assert.equal(failureOf(run).code, 'file-system')
      assert.match(failureOf(run).message, /could not open the pool/)
      assert.deepEqual(readdirSync(setting.path('out')), [])
    }))
})
