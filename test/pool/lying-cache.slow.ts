// Caches that give wrong answers, fail or stall: a build always ends with a clear error, or the pool
// has the complete closure. Most tests only fill the pool, with workers that all tests share: the rest
// of a build reads no cache.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { suite, test } from 'node:test'
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { buildNetImage, NetimageError, verifyImage, type ErrorCode } from '../../src/index.ts'
import { errnoOf, exitStatus } from '../../src/errors.ts'
import type { Closure } from '../../src/nix/closure.ts'
import { maxNarInfoBytes } from '../../src/nix/narinfo.ts'
import { assertError, netimageError, type Expected } from '../support/errors.ts'
import { closureFetcher } from '../support/fetch-closure.ts'
import {
  hasDownload,
  startFakeCache,
  type Answer,
  type FakeCache,
  type FakeCacheOptions,
  type Lie,
} from '../support/fake-cache.ts'
import {
  addressedPath,
  cachedPath,
  cacheFiles,
  inventLargeSystem,
  inventPath,
  inventSystem,
  makeKey,
  narHashOf,
  narOf,
  sha256,
  signatureOf,
  narString,
  type CachedPath,
} from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const key = makeKey('good-1')
const otherKey = makeKey('other-1')
const impostor = { ...makeKey('good-1') }
const noise = createHash('shake256', { outputLength: 300_000 }).digest()

/** A system, its kernel, an app that the system refers to, and a library of the app. */
function makePaths() {
  const lib = cachedPath(
    inventPath('lib'),
    { directory: { lib: { file: 'library\n' } } },
    {
      keys: [key],
    },
  )
  const app = cachedPath(
    inventPath('app'),
    { directory: { app: { file: noise } } },
    {
      references: [lib.path],
      keys: [key],
    },
  )
  return { ...inventSystem('lies', [app.path], [key]), app, lib }
}

type Paths = ReturnType<typeof makePaths>

type Scenario = {
  /** Changes the facts in the narinfos. */
  change?: (paths: Paths) => void
  /** Changes the files of the cache. */
  files?: (files: Map<string, Buffer | (() => AsyncIterable<Buffer>)>, paths: Paths) => void
} & FakeCacheOptions

type Setting = Workspace & {
  cache: FakeCache
  paths: Paths
  warnings: string[]
  /** How often a store waited before its next try. */
  waits: number
}

const narOfApp = makePaths().app.url
const appPath = makePaths().app.path
const libPath = makePaths().lib.path
const systemPath = makePaths().toplevel.path
const infoOfApp = `${makePaths().app.path.slice(11, 43)}.narinfo`

async function withCache(scenario: Scenario, action: (setting: Setting) => Promise<void>) {
  const paths = makePaths()
  scenario.change?.(paths)
  const files = new Map<string, Buffer | (() => AsyncIterable<Buffer>)>(
    cacheFiles(Object.values(paths)),
  )
  scenario.files?.(files, paths)
  const workspace = makeWorkspace('lies')
  /** The directories in which builds download. */
  const scratch = () => {
    const above = workspace.path('pool', 'scratch')
    return readdirSync(above).map((lease) => join(above, lease))
  }
  const cache = await startFakeCache(files, {
    hasSaved: (name, end) => name !== narOfApp || scratch().some((each) => hasDownload(each, end)),
    ...scenario,
  })
  try {
    await action({ ...workspace, cache, paths, warnings: [], waits: 0 })
  } finally {
    await cache.close()
    workspace.remove()
  }
}

type Request = { system?: string; from?: string[]; checkSignatures?: boolean; pool?: string }

const fetchAll = closureFetcher()

function fetchClosure(setting: Setting, request: Request = {}): Promise<Closure> {
  return fetchAll({
    ...{ from: [setting.cache.url], pool: setting.pool, trustedPublicKeys: [key.publicKey] },
    ...request,
    root: request.system ?? setting.paths.toplevel.path,
    warn: (message) => setting.warnings.push(message),
    wait() {
      setting.waits++
      return Promise.resolve()
    },
  })
}

/** The error that the others of the chain explain. */
function firstCause(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? firstCause(error.cause) : error
}

/** A whole build. */
async function build({ cache, paths, image, pool, warnings }: Setting): Promise<void> {
  await buildNetImage({
    system: paths.toplevel.path,
    output: image,
    pool,
    from: [cache.url],
    trustedPublicKeys: [key.publicKey],
    progress: {
      begin: () => ({ update: () => undefined, end: () => undefined }),
      warn: (message) => warnings.push(message),
    },
  })
}

async function assertFails(
  setting: Setting,
  code: ErrorCode,
  expected: Expected,
  request?: Request,
): Promise<NetimageError> {
  const before = readdirSync(setting.directory).concat('pool').sort()
  const failure = await fetchClosure(setting, request).catch((error: unknown) => error)
  assertError(failure, code, expected)
  assert.deepEqual(setting.leftovers(), [])
  const after = readdirSync(setting.directory).concat('pool').sort()
  assert.deepEqual([...new Set(after)], [...new Set(before)])
  return failure
}

async function assertBuilds(setting: Setting, request?: Request): Promise<void> {
  await fetchClosure(setting, request)
  assert.deepEqual(setting.leftovers(), [])
}

/** A wrong answer for one file only. */
const about =
  (name: string, lie: NonNullable<FakeCacheOptions['lie']>): NonNullable<FakeCacheOptions['lie']> =>
  (request, honest) =>
    request.name === name ? lie(request, honest) : honest

/** Longer than every limit. It does end, so that a missing limit does not fill the disk. */
async function* endless(): AsyncGenerator<Buffer> {
  const chunk = Buffer.alloc(64 * 1024, 'endless ')
  for (let sent = 0; sent < 1 << 28; sent += chunk.length) {
    yield chunk
    // Let the other servers of this process run, too.
    await delay(0)
  }
}

function fails(
  what: string,
  scenario: Scenario,
  code: ErrorCode,
  expected: Expected,
  then?: (setting: Setting, failure: NetimageError) => void,
): void {
  test(`${what}: ${code}`, () =>
    withCache(scenario, async (setting) => {
      const failure = await assertFails(setting, code, expected)
      then?.(setting, failure)
    }))
}

function builds(what: string, scenario: Scenario, then?: (setting: Setting) => void): void {
  test(`${what}: builds`, () =>
    withCache(scenario, async (setting) => {
      await assertBuilds(setting)
      then?.(setting)
    }))
}

const app =
  (change: (app: CachedPath) => void) =>
  ({ app }: Paths) =>
    change(app)

suite('an honest cache', () => {
  test('over HTTP: builds a whole image', () =>
    withCache({}, async (setting) => {
      await build(setting)
      const { image, cache, paths } = setting
      assert.deepEqual((await verifyImage({ image })).findings, [])
      const root = join(image, 'net-image/nixos-net-image-lies-x86_64-linux')
      assert.deepEqual(readFileSync(join(root, paths.app.path, 'app')), noise)
      assert.equal(setting.pooled().length, 4)
      assert.deepEqual(setting.leftovers(), [])
      assert.equal(cache.asked('nix-cache-info').length, 1)
      for (const { headers } of cache.requests) assert.equal(headers['user-agent'], 'netimage')
    }))
  builds('that names no file hash or size', {
    change: app((app) => {
      app.fileHash = undefined
      app.fileSize = undefined
    }),
  })
  for (const compression of ['none', 'br', 'gzip'] as const) {
    builds(`with ${compression}`, {
      change: (paths) =>
        Object.assign(
          paths.lib,
          cachedPath(paths.lib.path, narOf({ file: 'x' }), { compression, keys: [key] }),
        ),
    })
  }

  builds('whose zstd files have several frames', {
    change: app((app) => {
      const nar = narOf({ directory: { app: { file: noise } } })
      const [first, second] = [nar.subarray(0, 1000), nar.subarray(1000)]
      app.file = Buffer.concat([zstdCompressSync(first), zstdCompressSync(second)])
      app.fileHash = narHashOf(app.file)
      app.fileSize = app.file.length
    }),
  })
})

test('a build of a cache with a wrong file leaves no image', () =>
  withCache(
    { change: app((app) => (app.fileHash = narHashOf(Buffer.from('other')))) },
    async (setting) => {
      const details = { path: appPath, field: 'FileHash' }
      await assert.rejects(build(setting), netimageError('hash-mismatch', details))
      assert.deepEqual([...setting.outputs(), ...setting.leftovers()], [])
    },
  ))

suite('a narinfo', { concurrency: 4 }, () => {
  const swapHash = app((app) => (app.narHash = narHashOf(Buffer.from('other'))))
  fails('a wrong NarHash, signed', { change: swapHash }, 'hash-mismatch', {
    path: appPath,
    field: 'NarHash',
  })
  fails(
    'a NarSize that is too small, signed',
    { change: app((app) => (app.narSize -= 8)) },
    'size-mismatch',
    { path: appPath, field: 'NarSize' },
  )
  fails(
    'a NarSize that is too large, signed',
    { change: app((app) => (app.narSize += 8)) },
    'size-mismatch',
    { path: appPath, field: 'NarSize' },
  )
  fails(
    'a NarSize of a petabyte, signed',
    { change: app((app) => (app.narSize = 1e15)) },
    'size-mismatch',
    { path: appPath, field: 'NarSize', expected: 1e15 },
  )
  for (const narSize of [0, 2 ** 53]) {
    fails(
      `a NarSize of ${narSize}`,
      { change: app((app) => (app.narSize = narSize)) },
      'bad-narinfo',
      { path: appPath, field: 'NarSize', actual: `${narSize}` },
    )
  }
  fails(
    'a wrong FileHash',
    { change: app((app) => (app.fileHash = narHashOf(Buffer.from('other')))) },
    'hash-mismatch',
    { path: appPath, field: 'FileHash' },
  )
  fails(
    'a FileSize that is too small',
    { change: app((app) => (app.fileSize = 100)) },
    'size-mismatch',
    { path: appPath, expected: 100 },
  )
  fails(
    'a FileSize that is too large',
    { change: app((app) => (app.fileSize = (app.fileSize ?? 0) + 1)) },
    'size-mismatch',
    { path: appPath, field: 'FileSize' },
  )
  fails(
    'a narinfo of another path',
    { files: (files, { lib }) => void files.set(infoOfApp, infoOf(files, lib)) },
    'bad-narinfo',
    { field: 'StorePath', expected: appPath, actual: libPath },
  )
  fails(
    'an unknown compression',
    { files: (files) => changeInfo(files, /Compression: zstd/, 'Compression: lzip') },
    'bad-narinfo',
    { path: appPath, field: 'Compression', actual: 'lzip' },
  )
  fails(
    'a wrong compression',
    { files: (files) => changeInfo(files, /Compression: zstd/, 'Compression: br') },
    'bad-compression',
    { path: appPath, field: 'br' },
  )
  for (const reference of ['../../etc', `${'e'.repeat(32)}-name`]) {
    fails(
      `a reference to ${reference}`,
      { files: (files) => changeInfo(files, /References: .*/, `References: ${reference}`) },
      'bad-narinfo',
      { path: appPath, field: 'References', actual: reference },
    )
  }
  fails(
    'a narinfo that is cut off',
    { files: (files) => changeInfo(files, /\nSig[^]*$/, '\nSig: goo') },
    'bad-narinfo',
    { path: appPath, field: 'end' },
  )
})

suite('signatures', { concurrency: 4 }, () => {
  const signed = (change: (app: CachedPath, paths: Paths) => void) => ({
    change: (paths: Paths) => change(paths.app, paths),
  })
  const untrusted = { path: appPath, referrer: systemPath, expected: 'good-1' }
  fails(
    'none',
    signed((app) => (app.keys = [])),
    'untrusted-path',
    untrusted,
    (_, failure) => assert.match(failure.message, /not signed/),
  )
  fails(
    'by another key',
    signed((app) => (app.keys = [otherKey])),
    'untrusted-path',
    untrusted,
    (_, failure) => assert.match(failure.message, /signed by other-1/),
  )
  fails(
    'by another key of the same name',
    signed((app) => (app.keys = [impostor])),
    'untrusted-path',
    untrusted,
  )
  fails(
    'of another path',
    signed((app, { lib }) => {
      app.keys = []
      app.signatures = [signatureOf(lib, key)]
    }),
    'untrusted-path',
    untrusted,
  )
  fails(
    'over fewer references',
    signed((app, { toplevel }) => {
      const signature = signatureOf(app, key)
      app.references.push(toplevel.path)
      app.keys = []
      app.signatures = [signature]
    }),
    'untrusted-path',
    untrusted,
  )
  for (const signature of ['good-1:', `good-1:${'A'.repeat(88)}`]) {
    fails(
      `that are none (${signature.slice(0, 12)})`,
      signed((app) => {
        app.keys = []
        app.signatures = [signature]
      }),
      'untrusted-path',
      untrusted,
    )
  }
  builds(
    'by a trusted key among others',
    signed((app) => {
      app.keys = [otherKey, impostor, key]
      app.signatures = ['nonsense', 'good-1:AAAA']
    }),
  )

  test('none at all, with --no-check-sigs: builds', () =>
    withCache(
      {
        change: (paths) => {
          for (const path of Object.values(paths)) path.keys = []
        },
      },
      async (setting) => {
        await assertFails(setting, 'untrusted-path', { path: systemPath })
        await assertBuilds(setting, { checkSignatures: false })
      },
    ))

  test('none at all, from a store with ?trusted=true: builds', () =>
    withCache(
      {
        change: (paths) => {
          for (const path of Object.values(paths)) path.keys = []
        },
      },
      (setting) => assertBuilds(setting, { from: [`${setting.cache.url}?trusted=true`] }),
    ))

  test('an invalid content address is left out, with a signature or without', () =>
    withCache({ change: app((app) => (app.ca = 'fixed:md5:nonsense')) }, async (setting) => {
      await build(setting)
      const manifest = readFileSync(join(setting.image, 'nix-support/net-image.json'), 'utf8')
      assert.doesNotMatch(manifest, /nonsense/)
    }))

  test('without signatures the NAR hash is still checked', () =>
    withCache(
      { change: app((app) => (app.narHash = narHashOf(Buffer.from('other')))) },
      (setting) =>
        assertFails(
          setting,
          'hash-mismatch',
          { path: appPath, field: 'NarHash' },
          {
            checkSignatures: false,
          },
        ).then(() => undefined),
    ))
})

suite('content addresses', { concurrency: 4 }, () => {
  const pathOf = ({ type, digest }: { type: string; digest: string }) =>
    addressedPath('source', type, digest)

  /** Replaces the library by a content-addressed path without a signature. */
  const addressed =
    (make: (file: Buffer) => { type: string; digest: string; ca: string }, given = noise) =>
    (paths: Paths) => {
      const { ca } = make(noise)
      const path = pathOf(make(noise))
      const made = cachedPath(path, narOf({ file: given }), { ca })
      paths.app.references = [path]
      Object.assign(paths.lib, { ...made, signatures: [], keys: [] })
    }
  const hexOf = (algorithm: string, bytes: Buffer) =>
    createHash(algorithm).update(bytes).digest('hex')
  const nar = (bytes: Buffer) => {
    const hex = hexOf('sha256', narOf({ file: bytes }))
    return { type: 'source', digest: `sha256:${hex}`, ca: `fixed:r:sha256:${hex}` }
  }
  const text = (bytes: Buffer) => {
    const hex = hexOf('sha256', bytes)
    return { type: 'text', digest: `sha256:${hex}`, ca: `text:sha256:${hex}` }
  }
  const flat = (algorithm: string) => (bytes: Buffer) => {
    const hex = hexOf(algorithm, bytes)
    const inner = sha256(`fixed:out:${algorithm}:${hex}:`).toString('hex')
    return { type: 'output:out', digest: `sha256:${inner}`, ca: `fixed:${algorithm}:${hex}` }
  }
  const kinds = { nar, text, 'flat sha256': flat('sha256'), 'flat sha512': flat('sha512') }

  for (const [kind, make] of Object.entries(kinds)) {
    for (const [lie, change] of Object.entries({
      content: addressed(make, Buffer.from('something else')),
      size: (paths: Paths) => {
        addressed(make)(paths)
        paths.lib.narSize += 8
      },
    })) {
      test(`a wrong ${lie} (${kind}): the next store has the right one`, () =>
        withCache({ change }, async (setting) => {
          const honest = makePaths()
          addressed(make)(honest)
          const good = await startFakeCache(cacheFiles(Object.values(honest)))
          try {
            await assertBuilds(setting, { from: [setting.cache.url, good.url] })
            assert.equal(setting.warnings.length, 1, setting.warnings.join('\n'))
            assert.match(setting.warnings[0] ?? '', /-source is not what .*; taking it from http:/)
          } finally {
            await good.close()
          }
        }))
    }
    builds(`a path that is addressed by its content (${kind}) and not signed`, {
      change: addressed(make),
    })
    fails(
      `content that its address (${kind}) does not name`,
      { change: addressed(make, Buffer.from('something else')) },
      'hash-mismatch',
      { path: pathOf(make(noise)), field: 'CA', expected: make(noise).ca },
    )
    fails(
      `an address (${kind}) that leads to another path`,
      {
        change: (paths) => {
          addressed(make)(paths)
          paths.lib.path = inventPath('source')
          paths.app.references = [paths.lib.path]
        },
      },
      'untrusted-path',
      { path: inventPath('source'), referrer: appPath },
    )
  }

  test('a wrong size of a NAR that another path has, too: size-mismatch', () =>
    // This must damage neither the image nor the entries of the pool.
    withCache(
      {
        change: (paths) => {
          addressed(nar)(paths)
          paths.app.references = []
          const own = narOf({ file: noise })
          const same = cachedPath(paths.app.path, own, {
            references: [paths.lib.path],
            keys: [key],
          })
          Object.assign(paths.app, same)
        },
      },
      async (setting) => {
        await assertBuilds(setting)
        const pooled = setting.pooled()
        setting.paths.lib.narSize += 8
        const lying = await startFakeCache(cacheFiles(Object.values(setting.paths)))
        try {
          for (const pool of [setting.pool, setting.path('another-pool')]) {
            await assert.rejects(fetchClosure(setting, { from: [lying.url], pool }), {
              code: 'size-mismatch',
            })
          }
          assert.deepEqual(setting.pooled(), pooled)
        } finally {
          await lying.close()
        }
      },
    ))

  test('the content of another path in its place: hash-mismatch', () =>
    // The pool keeps the same NAR only once. That must not prove a content address.
    withCache(
      {
        change: (paths) => {
          addressed(text)(paths)
          Object.assign(paths.lib, {
            ...{ narHash: paths.kernel.narHash, narSize: paths.kernel.narSize },
            ...{ fileHash: paths.kernel.fileHash, fileSize: paths.kernel.fileSize },
            file: paths.kernel.file,
          })
        },
      },
      async (setting) => {
        const { path } = setting.paths.lib
        await assertFails(setting, 'hash-mismatch', { path, field: 'CA' })
      },
    ))
})

suite('an answer of a cache', { concurrency: 10 }, () => {
  const html: Answer = {
    status: 200,
    headers: { 'content-type': 'text/html' },
    body: '<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n',
  }
  fails('a web page for nix-cache-info', { lie: () => html }, 'bad-store', {
    actual: '<!DOCTYPE html>',
  })
  fails('a web page for a narinfo', { lie: about(infoOfApp, () => html) }, 'bad-narinfo', {
    path: appPath,
  })
  fails('a web page for a NAR', { lie: about(narOfApp, () => html) }, 'bad-compression', {
    path: appPath,
    field: 'magic',
  })

  const status = (status: number, headers = {}): Answer => ({ status, headers, body: `${status}` })
  const times = (count: number) => (setting: Setting) =>
    assert.equal(setting.cache.asked(infoOfApp).length, count)

  for (const code of [404, 410]) {
    fails(
      `${code} for a narinfo`,
      { lie: about(infoOfApp, () => status(code)) },
      'path-not-found',
      { path: appPath, referrer: systemPath },
      times(1),
    )
  }
  fails('404 for a NAR', { lie: about(narOfApp, () => status(404)) }, 'path-not-found', {
    path: appPath,
    url: narOfApp,
  })
  for (const code of [401, 403]) {
    fails(
      `${code} for a narinfo`,
      { lie: about(infoOfApp, () => status(code)) },
      'not-allowed',
      { path: appPath, status: code },
      (setting, failure) => {
        times(1)(setting)
        assert.match(failure.hint ?? '', /machine 127\.0\.0\.1 login .* --netrc-file/)
      },
    )
    fails(`${code} for a NAR`, { lie: about(narOfApp, () => status(code)) }, 'not-allowed', {
      path: appPath,
      status: code,
    })
  }
  for (const code of [500, 503]) {
    fails(
      `${code} for ever`,
      { lie: about(infoOfApp, () => status(code)) },
      'store-unavailable',
      { path: appPath, status: code },
      times(5),
    )
  }
  fails(
    '400',
    { lie: about(infoOfApp, () => status(400)) },
    'store-unavailable',
    { path: appPath, status: 400 },
    times(1),
  )
  for (const code of [500, 408]) {
    builds(
      `${code} once`,
      { lie: about(infoOfApp, (request, honest) => (request.before < 1 ? status(code) : honest)) },
      times(2),
    )
  }
  fails(
    'no nix-cache-info',
    { files: (files) => void files.delete('nix-cache-info') },
    'bad-store',
    { field: 'nix-cache-info' },
  )
  fails(
    'another StoreDir',
    { files: (files) => void files.set('nix-cache-info', Buffer.from('StoreDir: /gnu/store\n')) },
    'bad-store',
    { field: 'StoreDir', expected: '/nix/store', actual: '/gnu/store' },
  )
  builds('an empty nix-cache-info', {
    files: (files) => void files.set('nix-cache-info', Buffer.alloc(0)),
  })

  test('no server at the address: store-unavailable', () =>
    withCache({}, async (setting) => {
      const { url } = setting.cache
      await setting.cache.close()
      const gone = { ...setting, cache: { ...setting.cache, close: () => Promise.resolve() } }
      const expected = { url: `${url}/nix-cache-info` }
      const failure = await assertFails(gone, 'store-unavailable', expected)
      assert.equal(errnoOf(firstCause(failure)), 'ECONNREFUSED')
      assert.equal(gone.waits, 4)
    }).catch((error: unknown) => {
      // The test has already closed the server.
      if (!(error instanceof Error) || !error.message.includes('ERR_SERVER_NOT_RUNNING'))
        throw error
    }))
})

suite('the transfer from a cache', { concurrency: 10 }, () => {
  const cutFirst = (attempts: number) =>
    about(narOfApp, (request, honest) =>
      request.before < attempts ? { ...honest, cutAfter: 100_000 } : honest,
    )
  builds('a connection that is cut', { lie: cutFirst(1) }, ({ cache }) => {
    const [first, second, ...more] = cache.asked(narOfApp)
    assert.equal(first?.headers.range, undefined)
    assert.equal(second?.headers.range, 'bytes=100000-')
    assert.equal(more.length, 0)
  })
  builds('connections that are cut again and again, each a little later', {
    lie: about(narOfApp, (request, honest) =>
      request.before < 7 ? { ...honest, cutAfter: 100_000 * (request.before + 1) } : honest,
    ),
    ranges: false,
  })
  builds('connections that are cut again and again, each going on', {
    lie: cutFirst(7),
  })
  builds('a connection that is cut, and no Range', { lie: cutFirst(1), ranges: false })
  builds('a connection that is cut at once', {
    lie: about(narOfApp, (request, honest) =>
      request.before < 1 ? { ...honest, cutAfter: 0 } : honest,
    ),
  })
  builds('a connection that is cut at a narinfo', {
    lie: about(infoOfApp, (request, honest) =>
      request.before < 1 ? { ...honest, cutAfter: 20 } : honest,
    ),
  })
  builds('a Range that begins elsewhere', {
    lie: about(narOfApp, (request, honest) => {
      if (request.before === 0) return { ...honest, cutAfter: 100_000 }
      const file = makePaths().app.file ?? Buffer.alloc(0)
      return {
        status: 206,
        headers: { 'content-range': `bytes 0-${file.length - 1}/${file.length}` },
        body: file,
      }
    }),
  })
  builds('a connection that is cut behind the last byte', {
    // The answer is chunked, so only the end of the connection shows where it ends.
    lie: about(narOfApp, (request, honest) =>
      request.before === 0 && Buffer.isBuffer(honest.body)
        ? { status: 200, body: honest.body, cutAfter: honest.body.length }
        : honest,
    ),
  })
  fails(
    'another file after the cut',
    {
      lie: about(narOfApp, (request, honest) =>
        request.before === 0
          ? { ...honest, cutAfter: 100_000 }
          : {
              ...honest,
              body: Buffer.isBuffer(honest.body) ? Buffer.alloc(honest.body.length) : '',
            },
      ),
    },
    'bad-compression',
    { path: appPath },
  )
  fails(
    'connections that are always cut',
    { lie: about(narOfApp, (_, honest) => ({ ...honest, cutAfter: 10 })) },
    'store-unavailable',
    { path: appPath },
    ({ cache }) => assert.equal(cache.asked(narOfApp).length, 5),
  )
  builds('a slow drip that is cut', {
    lie: about(narOfApp, (request, honest) =>
      request.before === 0 ? { ...honest, body: drip(honest), cutAfter: 50 } : honest,
    ),
  })

  const forEver = { status: 200, body: endless() }
  fails('a narinfo without end', { lie: about(infoOfApp, () => forEver) }, 'size-mismatch', {
    path: appPath,
    expected: maxNarInfoBytes,
  })
  fails(
    'a nix-cache-info without end',
    { lie: about('nix-cache-info', () => ({ status: 200, body: endless() })) },
    'size-mismatch',
    { expected: maxNarInfoBytes },
  )
  fails(
    'a NAR without end',
    { lie: about(narOfApp, () => ({ status: 200, body: endless() })) },
    'size-mismatch',
    { path: appPath },
  )
  fails(
    'a NAR without end, and no FileSize',
    {
      change: app((app) => (app.fileSize = undefined)),
      lie: about(narOfApp, () => ({ status: 200, body: endless() })),
    },
    'size-mismatch',
    { path: appPath },
  )
  fails(
    'a NAR without end, and a FileSize of a petabyte',
    {
      change: app((app) => (app.fileSize = 1e15)),
      lie: about(narOfApp, () => ({ status: 200, body: endless() })),
    },
    'size-mismatch',
    { path: appPath },
  )

  const fastBrotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }
  const bomb = narOf({ file: Buffer.alloc(16 << 20) })
  for (const [compression, compress] of [
    ['zstd', zstdCompressSync],
    ['br', (bytes: Buffer) => brotliCompressSync(bytes, fastBrotli)],
    ['gzip', gzipSync],
  ] as const) {
    fails(
      `a decompression bomb (${compression})`,
      {
        change: app((app) => {
          app.compression = compression
          app.file = compress(bomb)
          app.fileHash = narHashOf(app.file)
          app.fileSize = app.file.length
        }),
      },
      'size-mismatch',
      { path: appPath, field: 'NarSize' },
    )
  }
  const encoding = (name: string, encode: (bytes: Buffer) => Buffer) =>
    about(infoOfApp, (_, honest) => ({
      status: 200,
      headers: { 'content-encoding': name },
      body: Buffer.isBuffer(honest.body) ? encode(honest.body) : '',
    }))
  builds('a narinfo in gzip', { lie: encoding('gzip', (bytes) => gzipSync(bytes)) })
  builds('a narinfo in br', { lie: encoding('br', (bytes) => brotliCompressSync(bytes)) })
  fails(
    'a narinfo that is a decompression bomb in gzip',
    { lie: encoding('gzip', () => gzipSync(Buffer.alloc(16 << 20, 'Sig: x\n'))) },
    'size-mismatch',
    { path: appPath, expected: maxNarInfoBytes },
  )
  fails(
    'a narinfo in an unknown encoding',
    { lie: encoding('compress', (bytes) => bytes) },
    'bad-store',
    { path: appPath, field: 'Content-Encoding' },
  )
  fails(
    'a narinfo that claims to be gzip and is not',
    { lie: encoding('gzip', (bytes) => bytes) },
    'bad-compression',
    { field: 'gzip' },
  )
  fails(
    'a NAR in a content encoding',
    {
      lie: about(narOfApp, (_, honest) => ({
        status: 200,
        headers: { 'content-encoding': 'gzip' },
        body: Buffer.isBuffer(honest.body) ? gzipSync(honest.body) : '',
      })),
    },
    'bad-store',
    { path: appPath, field: 'Content-Encoding' },
  )
})

suite('a URL or reference of a cache', { concurrency: 10 }, () => {
  const redirect = (location: string): Answer => ({ status: 302, headers: { location } })

  builds('a redirect on the same server', {
    files: (files, { app }) => void files.set('elsewhere', app.file ?? Buffer.alloc(0)),
    lie: about(narOfApp, () => redirect('/elsewhere')),
  })
  fails(
    'a redirect to itself',
    { lie: about(narOfApp, () => redirect(`/${narOfApp}`)) },
    'store-unavailable',
    { path: appPath, status: 302 },
    ({ cache }) => assert.ok(cache.asked(narOfApp).length <= 10),
  )
  fails(
    'redirects without end',
    {
      lie: (request, honest) =>
        /^(nar|there)/.test(request.name) ? redirect(`/there/${Math.random()}`) : honest,
    },
    'store-unavailable',
    { path: appPath, status: 302 },
    ({ cache }) => assert.ok(cache.requests.length <= 100, `${cache.requests.length}`),
  )
  fails(
    'a redirect to a file',
    { lie: about(narOfApp, () => redirect('file:///etc/passwd')) },
    'store-unavailable',
    { path: appPath, status: 302 },
  )
  fails(
    'a NAR at a file: URL',
    { change: app((app) => (app.url = 'file:///etc/passwd')) },
    'bad-narinfo',
    { path: appPath, field: 'URL', actual: 'file:///etc/passwd' },
  )
  fails(
    'a NAR at an invalid URL',
    { change: app((app) => (app.url = 'http://[')) },
    'bad-narinfo',
    {
      path: appPath,
      field: 'URL',
      actual: 'http://[',
    },
  )

  test('a NAR on another server: builds, without our credentials', async () => {
    const { app } = makePaths()
    const other = await startFakeCache(new Map([['the.nar', app.file ?? Buffer.alloc(0)]]))
    try {
      await withCache(
        { change: ({ app }) => (app.url = `${other.url}/the.nar`) },
        async (setting) => {
          const from = [setting.cache.url.replace('//', '//user:secret@')]
          await assertBuilds(setting, { from })
          const [request] = other.requests
          assert.equal(request?.headers.authorization, undefined)
          assert.ok(setting.cache.requests[0]?.headers.authorization)
        },
      )
    } finally {
      await other.close()
    }
  })

  for (const url of ['../secret.nar', 'nar/../../secret.nar', '/etc/passwd']) {
    test(`a NAR at ${url} of a directory cache: bad-narinfo`, () =>
      withCache({ change: app((app) => (app.url = url)) }, async (setting) => {
        const directory = setting.path('cache')
        writeCache(directory, Object.values(setting.paths))
        writeFileSync(setting.path('secret.nar'), setting.paths.app.file ?? '')
        const from = [`file://${directory}`]
        await assertFails(setting, 'bad-narinfo', { field: 'URL', actual: url }, { from })
      }))
  }

  test('a missing NAR in a directory cache: path-not-found', () =>
    withCache({ change: app((app) => (app.file = undefined)) }, async (setting) => {
      const directory = setting.path('cache')
      writeCache(directory, Object.values(setting.paths))
      await assertFails(
        setting,
        'path-not-found',
        { path: appPath, url: narOfApp },
        {
          from: [`file://${directory}`],
        },
      )
    }))

  fails(
    'a cycle of references',
    { change: ({ app, lib }) => lib.references.push(app.path) },
    'bad-store',
    { path: libPath },
  )
  builds('a reference of a path to itself', { change: ({ lib }) => lib.references.push(lib.path) })
  fails(
    'a reference to a missing path',
    { change: ({ lib }) => lib.references.push(inventPath('gone')) },
    'path-not-found',
    { path: inventPath('gone'), referrer: libPath },
  )
})

suite('a hostile NAR', { concurrency: 4 }, () => {
  const named = (...names: string[]) =>
    Buffer.concat([
      ...['nix-archive-1', '(', 'type', 'directory'].map(narString),
      ...names.flatMap((name) =>
        ['entry', '(', 'name', name, 'node', '(', 'type', 'regular', 'contents', 'x', ')', ')'].map(
          narString,
        ),
      ),
      narString(')'),
    ])
  const throughLink = Buffer.concat([
    ...['nix-archive-1', '(', 'type', 'directory'].map(narString),
    ...[
      'entry',
      '(',
      'name',
      'a',
      'node',
      '(',
      'type',
      'symlink',
      'target',
      '../../..',
      ')',
      ')',
    ].map(narString),
    ...['entry', '(', 'name', 'a', 'node', '(', 'type', 'directory'].map(narString),
    ...['entry', '(', 'name', 'b', 'node', '(', 'type', 'regular', 'contents', 'x', ')', ')'].map(
      narString,
    ),
    ...[')', ')', ')'].map(narString),
  ])
  const deep = Buffer.concat([
    narString('nix-archive-1'),
    ...Array.from({ length: 5000 }, () =>
      Buffer.concat(['(', 'type', 'directory', 'entry', '(', 'name', 'd', 'node'].map(narString)),
    ),
  ])
  const good = narOf({ directory: { app: { file: noise } } })
  const nars: Record<string, Buffer> = {
    'has an entry ".."': named('..'),
    'has a slash in a name': named('a/../../../../escaped'),
    'is absolute': named('/tmp/netimage-escaped'),
    'has a name twice': named('a', 'a'),
    'has names out of order': named('b', 'a'),
    'has an empty name': named(''),
    'has a NUL in a name': named('a\0b'),
    'writes through a symlink (CVE-2024-45593)': throughLink,
    'nests without end (CVE-2026-44028)': deep,
    'is cut off': good.subarray(0, -8),
    'has bytes after its end': Buffer.concat([good, Buffer.alloc(8)]),
    'has two roots': Buffer.concat([good, good]),
    'is empty': Buffer.from('12345678'),
  }
  for (const [what, nar] of Object.entries(nars)) {
    test(`a signed NAR that ${what}: bad-nar`, () =>
      withCache(
        {
          change: app((app) => Object.assign(app, cachedPath(app.path, nar, { keys: [key] }))),
        },
        async (setting) => {
          await assertFails(setting, 'bad-nar', { path: appPath })
          assert.deepEqual(
            readdirSync(dirname(setting.directory)).filter((name) => name.includes('escaped')),
            [],
          )
        },
      ))
  }

  const files: Record<string, (file: Buffer) => Buffer> = {
    'is cut off': (file) => file.subarray(0, -10),
    'is followed by bytes': (file) => Buffer.concat([file, Buffer.from('more')]),
    'is followed by another frame': (file) => Buffer.concat([file, zstdCompressSync('more')]),
    'is nothing': () => Buffer.alloc(0),
    'has a wrong byte': (file) => {
      const copy = Buffer.from(file)
      copy.writeUInt8(copy.readUInt8(1000) ^ 1, 1000)
      return copy
    },
  }
  for (const [what, change] of Object.entries(files)) {
    for (const told of [true, false]) {
      test(`a file that ${what}, ${told ? 'and' : 'with no'} FileHash: fails`, () =>
        withCache(
          {
            change: app((app) => {
              app.file = change(app.file ?? Buffer.alloc(0))
              app.fileSize = told && app.file.length > 0 ? app.file.length : undefined
              app.fileHash = told ? narHashOf(app.file) : undefined
            }),
          },
          async (setting) => {
            const failure = await fetchClosure(setting).then(
              () => assert.fail('it succeeded'),
              (error: unknown) => error,
            )
            assert.ok(failure instanceof NetimageError, String(failure))
            assert.equal(failure.exitStatus, exitStatus.untrusted, failure.message)
            assert.deepEqual(setting.leftovers(), [])
          },
        ))
    }
  }
})

suite('a second store', { concurrency: 4 }, () => {
  /** The first store has wrong data, the second store has the same paths with right data. */
  function mends(what: string, scenario: Scenario, warning: RegExp): void {
    test(`replaces ${what}, with a warning`, () =>
      withCache(scenario, async (setting) => {
        const good = await startFakeCache(cacheFiles(Object.values(makePaths())))
        try {
          await assertBuilds(setting, { from: [setting.cache.url, good.url] })
          assert.equal(setting.warnings.length, 1, setting.warnings.join('\n'))
          assert.match(setting.warnings[0] ?? '', warning)
        } finally {
          await good.close()
        }
      }))
  }
  const damaged = (bytes: Buffer) => Buffer.from(bytes).fill(0, 100, 200)
  mends(
    'a damaged file',
    { files: (files, { app }) => void files.set(narOfApp, damaged(app.file ?? Buffer.alloc(0))) },
    /^.*; taking it from http:/,
  )
  mends(
    'a missing NAR',
    { files: (files) => void files.delete(narOfApp) },
    /does not have its NAR .*; taking it from/,
  )
  mends(
    'a cache that is down',
    { lie: () => ({ status: 500 }) },
    /status 500 .*; continuing without http:/,
  )
  mends(
    'a server that is not a cache',
    { lie: () => ({ status: 200, body: '<html>' }) },
    /is not a cache.*; continuing without/,
  )

  test('replaces a cache without its NARs, which we try once, with one warning', () =>
    withCache({}, async (setting) => {
      const many = inventLargeSystem('gone', { paths: 60, bytes: 100, keys: [key] })
      const files = cacheFiles(many.all)
      const isNar = ({ name }: { name: string }) => name.startsWith('nar/')
      const lie: Lie = (request, honest) => (isNar(request) ? { status: 503 } : honest)
      const [gone, good] = [await startFakeCache(files, { lie }), await startFakeCache(files)]
      try {
        const from = [gone.url, good.url]
        await assertBuilds(setting, { from, system: many.toplevel })
        assert.match(
          setting.warnings.join(' | '),
          /^\S+ .* status 503 [^|]*; continuing without \S+$/,
        )
        // Only the requests that were running when the first request finally failed.
        const asked = new Set(gone.requests.filter(isNar).map(({ name }) => name))
        assert.ok(asked.size <= 16, `${asked.size} of ${many.all.length}`)
        assert.ok(gone.requests.filter(isNar).length <= 16 * 5)
      } finally {
        await Promise.all([gone.close(), good.close()])
      }
    }))

  test('is asked for a path that the first store has without a signature', () =>
    withCache({ change: app((app) => (app.keys = [])) }, async (setting) => {
      const good = await startFakeCache(cacheFiles(Object.values(makePaths())))
      try {
        await assertBuilds(setting, { from: [setting.cache.url, good.url] })
        assert.deepEqual(
          good.requests.map(({ name }) => name).sort(),
          [infoOfApp, narOfApp, 'nix-cache-info'].sort(),
        )
      } finally {
        await good.close()
      }
    }))

  test('is not used if it has another NAR of the same path', () =>
    withCache({ files: (files) => void files.delete(narOfApp) }, async (setting) => {
      const paths = makePaths()
      Object.assign(
        paths.app,
        cachedPath(
          paths.app.path,
          { file: 'other' },
          { keys: [key], references: paths.app.references },
        ),
      )
      const other = await startFakeCache(cacheFiles(Object.values(paths)))
      try {
        await assertFails(
          setting,
          'path-not-found',
          { path: appPath, url: narOfApp },
          {
            from: [setting.cache.url, other.url],
          },
        )
      } finally {
        await other.close()
      }
    }))
})

function infoOf(files: ReadonlyMap<string, unknown>, { path }: CachedPath): Buffer {
  const info = files.get(`${path.slice(11, 43)}.narinfo`)
  if (!Buffer.isBuffer(info)) throw new Error(`There is no narinfo of ${path}.`)
  return info
}

function changeInfo(
  files: Map<string, Buffer | (() => AsyncIterable<Buffer>)>,
  pattern: RegExp,
  replacement: string,
): void {
  const info = files.get(infoOfApp)
  const text = String(info)
  assert.match(text, pattern)
  files.set(infoOfApp, Buffer.from(text.replace(pattern, replacement)))
}

async function* drip({ body }: Answer): AsyncGenerator<Buffer> {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0)
  for (let at = 0; at < bytes.length; at++) {
    yield bytes.subarray(at, at + 1)
    await delay(5)
  }
}

function writeCache(directory: string, paths: CachedPath[]): void {
  for (const [name, content] of cacheFiles(paths)) {
    const file = join(directory, name)
    if (!file.startsWith(`${directory}/`)) continue
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, content)
  }
}
