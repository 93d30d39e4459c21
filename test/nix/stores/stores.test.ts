// Shows which store a path comes from, and reads local stores of Nix and of images.

import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { closeSync, openSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, suite, test } from 'node:test'
import { buildNetImage, type NetimageError } from '../../../src/index.ts'
import { closureInfos, resolveClosure, type Closure } from '../../../src/nix/closure.ts'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { openStores } from '../../../src/nix/stores/choose.ts'
import { openStore } from '../../../src/nix/stores/open.ts'
import { findSystemPath } from '../../../src/nixos/name-system.ts'
import { netimageError } from '../../support/errors.ts'
import { startFakeCache, type FakeCache } from '../../support/fake-cache.ts'
import { closureFetcher, type ClosureRequest } from '../../support/fetch-closure.ts'
import { machineWithNix, readOnly } from '../../support/namespace.ts'
import { assertWhole, failureOf, netimage, netimageJson, type Run } from '../../support/netimage.ts'
import { runProgram } from '../../support/real-nix.ts'
import { cacheFiles, inventSystem, makeKey, writeCache } from '../../support/synthetic.ts'
import { buildSmallSystem, type TestSystem } from '../../support/systems.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'

const fetchClosure = closureFetcher()

suite('a directory with blanks in its name', () => {
  const { toplevel } = inventSystem('blanks', [], [makeKey('blanks-1')])
  const wanted = toStorePath(toplevel.path)
  let workspace: Workspace
  before(() => {
    workspace = makeWorkspace('blanks')
    for (const name of ['My Disk/my cache', '100%20', 'plain', 'other']) {
      writeCache(workspace.path(name), [toplevel])
    }
  })
  after(() => workspace.remove())

  /** The URLs of the opened stores, and whether all of them have the path. */
  async function open(place: string): Promise<string[]> {
    const { stores } = await openStores({ from: [place] }, () => undefined)
    for (const store of stores) assert.ok(wanted && (await store.lookup(wanted)), store.url)
    return stores.map(({ url }) => url)
  }

  test('is one store', async () => {
    const directory = workspace.path('My Disk/my cache')
    for (const place of [directory, `file://${directory}`, `file://${encodeURI(directory)}`]) {
      assert.deepEqual(await open(place), [`file://${directory}`])
    }
  })

  test('may be written without encoding, even if it looks encoded', async () => {
    const directory = workspace.path('100%20')
    for (const place of [directory, `file://${directory}`, `file://${encodeURI(directory)}`]) {
      assert.deepEqual(await open(place), [`file://${directory}`])
    }
  })

  test('may be in one string with other stores', async () => {
    const [plain, other] = [workspace.path('plain'), workspace.path('other')]
    const both = [`file://${plain}`, `file://${other}`]
    assert.deepEqual((await open(`${plain} ${other}`)).sort(), both.sort())
    assert.deepEqual((await open(`file://${plain}\n ${other}`)).sort(), both.sort())
  })

  test('that does not exist: the error has the whole name', async () => {
    const gone = workspace.path('My Disk/gone')
    await assert.rejects(open(gone), netimageError('bad-store-url', { store: gone }))
    await assert.rejects(open('file:///%zz'), netimageError('bad-store-url'))
  })
})

suite('the nix-cache-info of a cache', () => {
  const { toplevel } = inventSystem('described', [], [makeKey('described-1')])
  const wanted = toStorePath(toplevel.path)

  async function lookup(cacheInfo: string): Promise<unknown> {
    const workspace = makeWorkspace('described')
    try {
      writeCache(workspace.directory, [toplevel])
      writeFileSync(workspace.path('nix-cache-info'), cacheInfo)
      const store = await openStore(workspace.directory)
      assert.ok(wanted)
      return (await store.lookup(wanted))?.info.path
    } finally {
      workspace.remove()
    }
  }

  const good = ['', '\n', 'Priority: 30\n', 'WantMassQuery: 1\r\n\r\n StoreDir : /nix/store']
  for (const text of [...good, 'StoreDir: /nix/store\nPriority: high\n', 'StoreDir:\n']) {
    test(`may be ${JSON.stringify(text)}`, async () => {
      assert.equal(await lookup(text), wanted)
    })
  }

  test('may not name another store directory', async () => {
    const details = { field: 'StoreDir', expected: '/nix/store', actual: '/gnu/store' }
    await assert.rejects(lookup('StoreDir: /gnu/store\n'), netimageError('bad-store', details))
  })

  test('may not be a web page', async () => {
    await assert.rejects(lookup('<!DOCTYPE html>\n<p>Log in</p>\n'), netimageError('bad-store'))
  })
})

suite('the order of stores', { concurrency: 4 }, () => {
  const key = makeKey('order-1')
  const { toplevel, kernel } = inventSystem('order', [], [key])

  async function withCaches(
    priorities: (number | undefined | 'broken')[],
    action: (caches: FakeCache[], find: (from: string[]) => Promise<string[]>) => Promise<void>,
  ): Promise<void> {
    const caches = await Promise.all(
      priorities.map((priority) => {
        const files = cacheFiles([toplevel, kernel])
        const line = priority === undefined ? '' : `Priority: ${priority}\n`
        files.set('nix-cache-info', Buffer.from(`StoreDir: /nix/store\n${line}`))
        if (priority === 'broken') files.clear()
        return startFakeCache(files)
      }),
    )
    try {
      await action(caches, async (from) => {
        const warnings: string[] = []
        const choice = { from, trustedPublicKeys: [key.publicKey] }
        const access = await openStores(choice, (message) => warnings.push(message))
        const root = toStorePath(toplevel.path)
        assert.ok(root)
        await resolveClosure([root], access, new AbortController().signal, () => undefined)
        await Promise.all(access.stores.map((store) => store.close()))
        return warnings
      })
    } finally {
      await Promise.all(caches.map((cache) => cache.close()))
    }
  }

  /** The number of narinfo requests to each cache. */
  const narinfos = (caches: FakeCache[]) =>
    caches.map(({ requests }) => requests.filter(({ name }) => name.endsWith('.narinfo')).length)
  const urls = (caches: FakeCache[]) => caches.map(({ url }) => url)

  test('is the order of the flags, not of the priorities', () =>
    withCaches([50, 10], async (caches, find) => {
      await find(urls(caches))
      assert.deepEqual(narinfos(caches), [2, 0])
    }))

  test('of stores in one flag is the order of their priorities', () =>
    withCaches([50, 10, 30], async (caches, find) => {
      await find([urls(caches).join(' ')])
      assert.deepEqual(narinfos(caches), [0, 2, 0])
    }))

  test('of a store without a priority is that of fifty', () =>
    withCaches([51, undefined, undefined], async (caches, find) => {
      await find([urls(caches).join('\n')])
      assert.deepEqual(narinfos(caches), [0, 2, 0])
    }))

  test('is changed by ?priority=', () =>
    withCaches([10, 50], async (caches, find) => {
      const [first, second] = urls(caches)
      await find([`${first} ${second}?priority=5`])
      assert.deepEqual(narinfos(caches), [0, 2])
    }))

  test('has a store with an unreadable priority at the end, with a warning', () =>
    withCaches(['broken', 50], async (caches, find) => {
      const warnings = await find([urls(caches).join(' ')])
      assert.deepEqual(narinfos(caches), [0, 2])
      assert.deepEqual(warnings, [
        `could not read the priority of ${caches[0]?.url}; it is asked last`,
      ])
    }))
})

test('if a file of a store cannot be read, the next store is asked', async () => {
  const key = makeKey('unreadable-1')
  const { toplevel, kernel } = inventSystem('unreadable', [], [key])
  const workspace = makeWorkspace('unreadable')
  const [bad, good] = ['bad', 'good'].map((name) => workspace.path(name))
  assert.ok(bad !== undefined && good !== undefined)
  for (const directory of [bad, good]) writeCache(directory, [toplevel, kernel])
  const nar = join(bad, kernel.url)
  rmSync(nar)
  mkdirSync(nar)
  const warnings: string[] = []
  await fetchClosure({
    root: toplevel.path,
    from: [bad, good].map((directory) => `file://${directory}`),
    pool: workspace.pool,
    trustedPublicKeys: [key.publicKey],
    warn: (message) => warnings.push(message),
  })
  assert.equal(warnings.length, 1)
  assert.match(warnings[0] ?? '', /could not read \S+: EISDIR.*; taking it from file:\/\/\S+good/)
  workspace.remove()
})

suite('a URL that is not a store is an error', () => {
  const cases: Record<string, RegExp> = {
    'ftp://example.org': /netimage does not support stores with ftp:\/\//,
    'ssh://host': /netimage does not support stores with ssh:\/\//,
    'http://[': /it is not a URL/,
    '/nowhere': /there is neither a Nix store nor a binary cache/,
    'local?root=/nowhere': /\/nowhere does not hold a Nix store/,
    'https://cache.example.org?priority=high': /the priority high is not a number/,
    'https://cache.example.org?trusted=perhaps': /trusted is perhaps, but must be true or false/,
    ' ': /a store has an empty URL/,
  }
  for (const [url, message] of Object.entries(cases)) {
    test(JSON.stringify(url), async () => {
      const system = `/nix/store/${'0'.repeat(32)}-system`
      const failure = await buildNetImage({ system, from: [url] }).catch((error: unknown) => error)
      assert.ok(isNetimageError(failure))
      assert.equal(failure.code, 'bad-store-url')
      assert.equal(failure.exitStatus, 2)
      assert.match(failure.message, message)
    })
  }

  for (const url of [
    'https://me:secret/2@host',
    'ftp://me:my@secret@host/',
    'http://me:secret@[',
  ]) {
    test(`and the error does not contain its password: ${url}`, async () => {
      const system = `/nix/store/${'0'.repeat(32)}-system`
      const failure = await buildNetImage({ system, from: [url] }).catch((error: unknown) => error)
      assert.ok(isNetimageError(failure))
      assert.equal(failure.code, 'bad-store-url')
      assert.doesNotMatch(JSON.stringify([failure.message, failure.details]), /secret/)
    })
  }

  for (const key of ['x', 'name:', 'name:AAAA', ':AAAA']) {
    test(`the key ${key} is not valid`, async () => {
      const opening = openStores({ trustedPublicKeys: [key] }, () => undefined)
      await assert.rejects(opening, netimageError('bad-public-key'))
    })
  }
})

suite('a local store', { concurrency: 3 }, () => {
  let workspace: Workspace
  let system: TestSystem
  const reference = () => workspace.path('images', 'reference')
  const database = (root: string) => join(root, 'nix/var/nix/db/db.sqlite')

  before(async () => {
    workspace = makeWorkspace('local')
    system = await buildSmallSystem(workspace.path('world'))
    mkdirSync(workspace.path('pools'))
    await build('reference', `local?root=${system.world.storeRoot}`)
    expected = await fetch('expected', `local?root=${system.world.storeRoot}`)
    assert.deepEqual([...expected.keys()], system.paths)
    await runProgram('cp', ['-a', system.world.storeRoot, untouched()])
  })
  after(() => workspace.remove())

  /** The store before another program opened its database. */
  const untouched = () => workspace.path('untouched')

  let expected: Closure

  /** Fetches the system from a store, without signatures. */
  function fetch(name: string, from: string, more: Partial<ClosureRequest> = {}): Promise<Closure> {
    return fetchClosure({
      ...{ root: system.toplevel, from: [from], pool: workspace.path('pools', name) },
      ...{ checkSignatures: false, ...more },
    })
  }

  /** The facts that every kind of store knows. The NAR hash stands for the whole content. */
  const facts = (closure: Closure) =>
    closureInfos(closure).map(({ path, narHash, references }) => [path, narHash.hex, references])

  async function assertFetches(
    name: string,
    from: string,
    more?: Partial<ClosureRequest>,
  ): Promise<void> {
    assert.deepEqual(facts(await fetch(name, from, more)), facts(expected))
  }

  /** Builds an image on another machine. */
  async function build(name: string, from: string, through: string[] = []): Promise<string> {
    const run = await tryBuild(name, from, ['--no-check-sigs'], through)
    assert.equal(run.status, 0, run.stderr)
    return workspace.path('images', name)
  }

  function tryBuild(
    name: string,
    from: string | undefined,
    args: string[] = [],
    through: string[] = [],
  ): Promise<Run> {
    const store = from === undefined ? [] : ['--from', from]
    const places = ['-o', workspace.path('images', name), '--pool', workspace.path('pools', name)]
    return netimage(['build', system.toplevel, ...store, ...places, ...args, '--json'], {
      cwd: workspace.directory,
      through,
    })
  }

  const treeOf = (image: string) =>
    describeTree(join(image, 'net-image', 'nixos-net-image-25.11.20261122.test-x86_64-linux'))

  const assertLikeReference = (image: string) => assertSameLines(treeOf(image), treeOf(reference()))

  /** A copy of the store, so that SQLite's changes to the database do not matter. */
  async function copyStore(name: string): Promise<string> {
    const root = workspace.path(name)
    await runProgram('cp', ['-a', untouched(), root])
    return root
  }

  test('of another root needs signatures', async () => {
    const root = await copyStore('signed')
    const trust = { checkSignatures: true, trustedPublicKeys: [system.key.publicKey] }
    const fetching = fetch('signed', `local?root=${root}`, trust)
    await assert.rejects(fetching, netimageError('untrusted-path'))
    // The database has the signature. Content-addressed paths have none.
    const [toplevel] = await system.world.pathInfo([system.toplevel])
    assert.deepEqual(toplevel?.signatures, [])
    await system.world.sign(system.paths, system.key.secretKeyFile)
    await fetch('signed', `local?root=${system.world.storeRoot}`, trust)
  })

  test('may be trusted by its URL', async () => {
    const from = `local?root=${untouched()}&trusted=true`
    await assertFetches('trusted', from, { checkSignatures: true })
  })

  test('may be named as a directory', () => assertFetches('directory', untouched()))

  test('of this machine is asked first, and trusted', async () => {
    const through = machineWithNix(system.world.storeRoot, workspace.path('machine'))
    const run = await tryBuild('machine', undefined, [], through)
    assert.equal(run.status, 0, run.stderr)
    assertLikeReference(workspace.path('images', 'machine'))
  })

  test('of this machine lacks a path: the public cache is asked for it', async () => {
    const through = machineWithNix(system.world.storeRoot, workspace.path('machine-2'))
    const gone = `/nix/store/${'0'.repeat(32)}-gone`
    const run = await tryBuild('gone', undefined, ['--store-paths', gone], through)
    assert.equal(run.status, 5)
    const { code, message } = failureOf(run)
    assert.equal(code, 'store-unavailable')
    assert.ok(
      message.startsWith(
        `could not find ${gone} in any store (asked: local, https://cache.nixos.org)`,
      ),
    )
  })

  test('may be one that Nix is writing to', async () => {
    const root = await copyStore('busy')
    // As in a running Nix: in WAL mode, with an unfinished transaction.
    const nix = new DatabaseSync(database(root))
    try {
      nix.exec('PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0')
      nix.exec(`UPDATE ValidPaths SET registrationTime = 5 WHERE path = '${system.toplevel}'`)
      nix.exec('BEGIN IMMEDIATE; DELETE FROM Refs; DELETE FROM ValidPaths')
      await assertFetches('busy', `local?root=${root}`)
      nix.exec('ROLLBACK')
    } finally {
      nix.close()
    }
  })

  /** A store with a system that is registered only in the WAL of the database. */
  async function storeWithLog(name: string): Promise<string> {
    const root = await copyStore(name)
    const file = database(root)
    const nix = new DatabaseSync(file)
    nix.exec('PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0')
    const select = nix.prepare(
      'SELECT id, path, hash, registrationTime, narSize FROM ValidPaths WHERE path = ?',
    )
    const row = select.get(system.toplevel)
    assert.ok(row)
    const references = nix
      .prepare('SELECT reference FROM Refs WHERE referrer = ?')
      .all(row['id'] ?? null)
    nix.exec('PRAGMA foreign_keys = off')
    nix.prepare('DELETE FROM Refs WHERE referrer = ?').run(row['id'] ?? null)
    nix.prepare('DELETE FROM ValidPaths WHERE path = ?').run(system.toplevel)
    nix.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    nix
      .prepare(
        'INSERT INTO ValidPaths (id, path, hash, registrationTime, narSize) VALUES (?, ?, ?, ?, ?)',
      )
      .run(...Object.values(row))
    for (const { reference } of references) {
      nix.prepare('INSERT INTO Refs VALUES (?, ?)').run(row['id'] ?? null, reference ?? null)
    }
    // This is the state after the machine was switched off now.
    for (const end of ['', '-wal']) copyFileSync(file + end, `${file}${end}.kept`)
    nix.close()
    for (const end of ['', '-wal']) copyFileSync(`${file}${end}.kept`, file + end)
    rmSync(`${file}-shm`, { force: true })
    return root
  }

  test('may be on a read-only disk', async () => {
    const root = await copyStore('read-only')
    // In WAL mode, as Nix leaves the database, with an empty WAL.
    const nix = new DatabaseSync(database(root))
    nix.exec('PRAGMA journal_mode = wal; PRAGMA wal_checkpoint(TRUNCATE)')
    nix.close()
    assert.ok(!existsSync(`${database(root)}-wal`))
    assertLikeReference(await build('read-only', `local?root=${root}`, readOnly(root)))
    assert.ok(!existsSync(`${database(root)}-wal`))
  })

  test('may be on a read-only disk, with a WAL', async () => {
    const root = await storeWithLog('log')
    const temporary = workspace.path('temporary')
    mkdirSync(temporary)
    const before = describeTree(dirname(database(root)))
    const through = [...readOnly(root), 'env', `TMPDIR=${temporary}`]
    assertLikeReference(await build('log', `local?root=${root}`, through))
    assertSameLines(describeTree(dirname(database(root))), before)
    assert.deepEqual(readdirSync(temporary), [])
    // Without the WAL the system is missing, so this test can fail.
    rmSync(`${database(root)}-wal`)
    const run = await tryBuild('no-log', `local?root=${root}`, ['--no-check-sigs'], readOnly(root))
    assert.equal(failureOf(run).code, 'path-not-found')
  })

  test('may have a WAL on a writable disk', async () => {
    const root = await storeWithLog('log-writable')
    await assertFetches('log-writable', `local?root=${root}`)
  })

  suite('as closureInfo lists it', () => {
    /** A store without a database, and the output of nixpkgs's closureInfo for it. */
    async function listStore(name: string): Promise<{ root: string; listed: string }> {
      const root = workspace.path(name)
      const listed = join(root, 'nix/store', `${'0'.repeat(32)}-closure-info`)
      await runProgram('cp', ['-a', untouched(), root])
      await runProgram('rm', ['-r', join(root, 'nix/var')])
      mkdirSync(listed)
      const registration = await system.world.nixStore(['--dump-db', ...system.paths])
      writeFileSync(join(listed, 'registration'), registration)
      writeFileSync(join(listed, 'store-paths'), system.paths.map((path) => `${path}\n`).join(''))
      return { root, listed }
    }

    test('without a database', async () => {
      const { listed } = await listStore('listed')
      await assertFetches('listed', listed)
    })

    test('of another root needs signatures, or trust', async () => {
      const { listed } = await listStore('listed-untrusted')
      const fetching = fetch('untrusted', listed, { checkSignatures: true })
      await assert.rejects(fetching, netimageError('untrusted-path'))
      await assertFetches('listed-trusted', `${listed}?trusted=true`, { checkSignatures: true })
    })

    test('with a changed path', async () => {
      const { root, listed } = await listStore('listed-changed')
      const content = system.paths.find((path) => path.endsWith('-content')) ?? ''
      const file = join(root, content, 'share/text')
      await runProgram('chmod', ['u+w', file])
      writeFileSync(file, 'other\n')
      await assert.rejects(fetch('listed-changed', listed), isMismatch)
    })

    test('is not trusted outside of a store', async () => {
      const { listed } = await listStore('listed-inside')
      const outside = workspace.path('listed-outside')
      await runProgram('cp', ['-r', listed, outside])
      await assert.rejects(fetch('listed-outside', outside), netimageError('bad-store-url'))
      const link = workspace.path('listed-link')
      symlinkSync(listed, link)
      await assertFetches('listed-link', link)
    })

    test('that is cut off', async () => {
      const { listed } = await listStore('listed-cut')
      const file = join(listed, 'registration')
      const text = readFileSync(file, 'utf8')
      writeFileSync(file, text.slice(0, -10))
      await assert.rejects(fetch('listed-cut', listed), netimageError('bad-store', { file }))
    })
  })

  test('may be changing: uncommitted changes do not count', async () => {
    const root = await copyStore('locked')
    const nix = new DatabaseSync(database(root))
    // As Nix leaves the database if `use-sqlite-wal` is false.
    nix.exec('PRAGMA journal_mode = truncate; BEGIN EXCLUSIVE; DELETE FROM Refs')
    try {
      const expected = netimageError('store-unavailable', { file: database(root) })
      await assert.rejects(fetch('locked', `local?root=${root}`), expected)
      nix.exec('ROLLBACK')
    } finally {
      nix.close()
    }
    await assertFetches('locked', `local?root=${root}`)
  })

  test('with a registered path that is missing', async () => {
    const root = await copyStore('hole')
    const hole = system.paths.find((path) => path.endsWith('-content')) ?? ''
    await runProgram('rm', ['-rf', join(root, hole)])
    const referrer = system.toplevel
    const expected = netimageError('path-not-found', { path: hole, referrer })
    await assert.rejects(fetch('hole', `local?root=${root}`), expected)
  })

  test('with a path that was changed', async () => {
    const root = await copyStore('changed')
    const content = system.paths.find((path) => path.endsWith('-content')) ?? ''
    const file = join(root, content, 'share/text')
    await runProgram('chmod', ['u+w', file])
    writeFileSync(file, 'other\n')
    await assert.rejects(fetch('changed', `local?root=${root}`), isMismatch)
  })

  const breakages: Record<string, { break: (root: string) => void; message: RegExp }> = {
    'that is not a database': {
      break: (root) => writeFileSync(database(root), 'x'.repeat(5000)),
      message: /could not read \S+db.sqlite/,
    },
    'that is empty': {
      break: (root) => writeFileSync(database(root), ''),
      message: /could not read \S+db.sqlite/,
    },
    'that is damaged inside': {
      break(root) {
        const { size } = statSync(database(root))
        const file = openSync(database(root), 'r+')
        writeSync(file, Buffer.alloc(size - 4096, 0xee), 0, size - 4096, 4096)
        closeSync(file)
      },
      message: /could not read \S+db.sqlite .*malformed/,
    },
    'of another schema': {
      break: (root) => writeFileSync(join(dirname(database(root)), 'schema'), '11'),
      message: /schema/,
    },
  }
  for (const [what, { break: damage, message }] of Object.entries(breakages)) {
    test(`with a database ${what}`, async () => {
      const name = `broken-${what.replaceAll(' ', '-')}`
      const root = await copyStore(name)
      for (const end of ['-wal', '-shm']) rmSync(database(root) + end, { force: true })
      damage(root)
      const expected = netimageError('bad-store', message)
      await assert.rejects(fetch(name, `local?root=${root}`), expected)
    })
  }

  test('may be the root tree of an image', async () => {
    const root = join(
      reference(),
      'net-image',
      readdirSync(join(reference(), 'net-image')).find((name) => name !== 'boot') ?? '',
    )
    for (const [name, from] of [
      ['of-image', root],
      ['of-image-2', `local?root=${root}`],
    ] as const) {
      await assertFetches(name, from)
    }
    // The paths have no signatures, and a content address would be the only other proof.
    const fetching = fetch('of-image-3', root, { checkSignatures: true })
    await assert.rejects(fetching, netimageError('untrusted-path'))
  })

  test('finds a system by ./result, and by a symlink into another root', async () => {
    const directory = workspace.path('links')
    mkdirSync(directory)
    symlinkSync(system.toplevel, join(directory, 'result'))
    symlinkSync('result', join(directory, 'again'))
    symlinkSync(join(system.world.storeRoot, system.toplevel), join(directory, 'real'))
    symlinkSync('loop', join(directory, 'loop'))
    symlinkSync('/nowhere/at/all', join(directory, 'dangling'))
    symlinkSync(`${system.toplevel}/init`, join(directory, 'inside'))
    const from = ['--from', system.world.storeRoot, '--no-check-sigs']
    const places = ['--pool', workspace.path('pools', 'links')]
    const { signal } = new AbortController()
    using roots = new DisposableStack()
    for (const name of ['result', 'again', 'real', 'result/']) {
      assert.equal(await findSystemPath(join(directory, name), roots, signal), system.toplevel)
    }
    const args = ['build', './again', ...from, ...places, '-o', 'image']
    await netimageJson(args, { cwd: directory })
    await assertWhole(join(directory, 'image'))
    const failures: Record<string, [code: string, message: RegExp]> = {
      loop: ['path-not-found', /leads through more than 40 links/],
      dangling: ['path-not-found', /^\/nowhere\/at\/all does not exist/],
      inside: [
        'bad-store-path',
        /inside leads to \/nix\/store\/\S+\/init, which is not a store path/,
      ],
      absent: ['path-not-found', /absent does not exist/],
      '.': ['not-a-system', /leads to no store path/],
      '/nix/store/wrong': ['bad-store-path', /is not a store path/],
      [`/nix/store/${'e'.repeat(32)}-x`]: ['bad-store-path', /is not a store path/],
      [`${system.toplevel}/init`]: ['bad-store-path', /is not a store path/],
    }
    for (const [name, [code, message]] of Object.entries(failures)) {
      const path = name.startsWith('/') ? name : join(directory, name)
      const failure = await findSystemPath(path, roots, signal).catch((error: unknown) => error)
      assert.ok(isNetimageError(failure))
      assert.equal(failure.code, code, name)
      assert.match(failure.message, message)
    }
  })

  test('has a path that is not a system', async () => {
    const content = system.paths.find((path) => path.endsWith('-content')) ?? ''
    const args = ['build', content, '--from', system.world.storeRoot, '--no-check-sigs', '--json']
    const run = await netimage([...args, '--pool', workspace.path('pools', 'none')], {
      cwd: workspace.directory,
    })
    assert.equal(run.status, 3)
    assert.equal(failureOf(run).code, 'not-a-system')
  })
})

/** A changed tree has another hash, and perhaps another size. */
function isMismatch(error: unknown): true {
  assert.ok(isNetimageError(error))
  assert.ok(error.code === 'hash-mismatch' || error.code === 'size-mismatch', error.code)
  assert.match(error.details.path ?? '', /-content$/)
  return true
}

function isNetimageError(error: unknown): error is NetimageError {
  return error instanceof Error && error.name === 'NetimageError'
}
