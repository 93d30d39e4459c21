// Requests to a cache that fail temporarily or finally.

import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { gzipSync } from 'node:zlib'
import { atSpeed } from '../../../src/nix/stores/http-body.ts'
import { httpTransport, type HttpSettings } from '../../../src/nix/stores/http-transport.ts'
import { netimageError } from '../../support/errors.ts'
import {
  hasDownload,
  startFakeCache,
  type FakeCache,
  type FakeCacheOptions,
} from '../../support/fake-cache.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitFor } from '../../support/waiting.ts'

interface Waits {
  ms: number[]
  warnings: string[]
}

function transportTo(url: string, waits: Waits, settings: Partial<HttpSettings> = {}) {
  return httpTransport(new URL(url), url, {
    authorize: () => Promise.resolve({}),
    accessHint: () => 'the hint',
    env: {},
    warn: (message) => waits.warnings.push(message),
    wait(ms) {
      waits.ms.push(ms)
      return Promise.resolve()
    },
    ...settings,
  })
}

type Setting = Waits & { cache: FakeCache; transport: ReturnType<typeof httpTransport> }

async function withCache(
  files: Record<string, Buffer>,
  options: FakeCacheOptions,
  action: (setting: Setting) => Promise<void>,
): Promise<void> {
  const cache = await startFakeCache(new Map(Object.entries(files)), options)
  const waits: Waits = { ms: [], warnings: [] }
  const transport = transportTo(cache.url, waits)
  try {
    await action({ ...waits, cache, transport })
  } finally {
    await transport.close()
    await cache.close()
  }
}

const fetching = (scratch: string) => ({
  scratch,
  signal: new AbortController().signal,
  downloaded: () => undefined,
})

suite('if a cache asks to wait', () => {
  const busy = (status: number, times: number, headers: Record<string, string> = {}) => ({
    lie: (request: { before: number }, honest: { status: number }) =>
      request.before < times ? { status, headers } : honest,
  })
  const file = { 'nix-cache-info': Buffer.from('x') }

  for (const status of [429, 503]) {
    test(`with ${status}, we wait as it asks, more often than the limit of failures`, () =>
      withCache(file, busy(status, 8, { 'retry-after': '60' }), async (setting) => {
        assert.equal(await setting.transport.text('nix-cache-info'), 'x')
        assert.deepEqual(
          setting.ms,
          Array.from({ length: 8 }, () => 60_000),
        )
        assert.equal(setting.warnings.length, 8)
        assert.match(setting.warnings[0] ?? '', /^127\.0\.0\.1:\d+ .* waiting 60 s$/)
      }))
  }

  test('without a time, we wait as long as Nix', () =>
    withCache(file, busy(429, 1), async (setting) => {
      assert.equal(await setting.transport.text('nix-cache-info'), 'x')
      assert.deepEqual(setting.ms, [60_000])
    }))

  test('until a date, we wait until that date', () => {
    const headers = { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() }
    return withCache(file, busy(503, 1, headers), async (setting) => {
      const { url } = setting.cache
      // The wait is longer than our limit, so the error names it.
      await assert.rejects(
        setting.transport.text('nix-cache-info'),
        netimageError(
          'store-unavailable',
          { url: `${url}/nix-cache-info`, status: 503 },
          /wait 3\d{3}/,
        ),
      )
      assert.deepEqual(setting.ms, [])
    })
  })

  test('again and again, we give up in the end', () =>
    withCache(file, busy(429, Infinity, { 'retry-after': '90' }), async (setting) => {
      await assert.rejects(
        setting.transport.text('nix-cache-info'),
        netimageError('store-unavailable', { status: 429 }),
      )
      // Ten minutes.
      assert.equal(setting.ms.length, 6)
    }))

  test('for zero seconds again and again, we give up, too', () =>
    withCache(file, busy(429, 200, { 'retry-after': '0' }), async (setting) => {
      await assert.rejects(
        setting.transport.text('nix-cache-info'),
        netimageError('store-unavailable', { status: 429 }),
      )
      assert.ok(setting.ms.length < 200)
    }))

  test('in many requests at once, we warn once', () => {
    const names = Array.from({ length: 10 }, (_, at) => `${at}.narinfo`)
    const files = Object.fromEntries(names.map((name) => [name, Buffer.from(name)]))
    let release = (): void => undefined
    const all = new Promise<void>((resolve) => (release = resolve))
    let waiting = 0
    return withCache(files, busy(429, 1), async ({ cache }) => {
      const waits: Waits = { ms: [], warnings: [] }
      const transport = transportTo(cache.url, waits, {
        wait() {
          if (++waiting === names.length) release()
          return all
        },
      })
      assert.deepEqual(await Promise.all(names.map((name) => transport.text(name))), names)
      assert.equal(waits.warnings.length, 1)
      await transport.close()
    })
  })
})

suite('a connection', () => {
  test('that is reset while we write is not a full disk, and we try again', async () => {
    const worker = new Worker(new URL('./support/resetting-server.ts', import.meta.url))
    const [port, shared] = await new Promise<[number, SharedArrayBuffer]>((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
    })
    const isReset = new Int32Array(shared)
    const waits: Waits = { ms: [], warnings: [] }
    const transport = transportTo(`http://127.0.0.1:${port}`, waits)
    try {
      for (let round = 1; round <= 5; round++) {
        assert.equal(await transport.text('first'), 'first')
        // The server has reset the connection, but this thread does not know that yet.
        worker.postMessage('reset')
        Atomics.wait(isReset, 0, round - 1)
        assert.equal(await transport.text('second'), 'second')
      }
      assert.ok(waits.ms.length > 0)
    } finally {
      await transport.close()
      await worker.terminate()
    }
  })

  test('that is cut in a compressed answer is tried again', () =>
    withCache(
      { 'a.narinfo': gzipSync(Buffer.from('text'.repeat(1000))) },
      {
        lie: (request, honest) => ({
          ...honest,
          headers: { 'content-encoding': 'gzip' },
          ...(request.before === 0 && { cutAfter: 20 }),
        }),
      },
      async ({ transport, cache }) => {
        assert.equal(await transport.text('a.narinfo'), 'text'.repeat(1000))
        assert.equal(cache.requests.length, 2)
      },
    ))

  test('that is cut continues only if the file is still the same', () => {
    const [before, after] = [Buffer.alloc(300_000, 'old '), Buffer.alloc(300_000, 'new ')]
    const scratch = temporaryDirectory()
    return withCache(
      { nar: after },
      {
        lie: (request, honest) => {
          if (request.before === 0) {
            return { status: 200, headers: { etag: '"old"' }, body: before, cutAfter: 100_000 }
          }
          // RFC 9110 demands the whole file if it has changed.
          const isSame = request.headers['if-range'] === '"new"'
          return isSame ? honest : { status: 200, headers: { etag: '"new"' }, body: after }
        },
        hasSaved: (_, end) => hasDownload(scratch, end),
      },
      async ({ transport, cache }) => {
        const got = await transport.file('nar', 1_000_000, fetching(scratch))
        assert.ok(got && readFileSync(got.file).equals(after))
        assert.equal(cache.requests[1]?.headers['if-range'], '"old"')
      },
    )
  })
})

test('after another part than the one that we asked for, we ask for the whole file', () => {
  const whole = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251))
  const scratch = temporaryDirectory()
  return withCache(
    { nar: whole },
    {
      lie(request, honest) {
        if (request.before === 0) return { status: 200, body: whole, cutAfter: 100_000 }
        if (request.headers.range === undefined) return honest
        const headers = { 'content-range': 'bytes 50000-299999/300000' }
        return { status: 206, headers, body: whole.subarray(50_000) }
      },
      hasSaved: (_, end) => hasDownload(scratch, end),
    },
    async ({ transport, cache }) => {
      const got = await transport.file('nar', 1_000_000, fetching(scratch))
      assert.ok(got && readFileSync(got.file).equals(whole))
      const ranges = cache.requests.map(({ headers }) => headers.range)
      assert.deepEqual(ranges, [undefined, 'bytes=100000-', undefined])
    },
  )
})

test('an error of the disk is reported at once', () =>
  withCache({ nar: Buffer.alloc(100) }, {}, async ({ transport, cache, ms }) => {
    const scratch = join(temporaryDirectory(), 'gone')
    await assert.rejects(transport.file('nar', 1000, fetching(scratch)), (error) => {
      netimageError('file-system', /could not save/)(error)
      return true
    })
    assert.equal(cache.requests.length, 1)
    assert.deepEqual(ms, [])
  }))

suite('a server that sends one byte every 29 seconds', () => {
  /** Each look at the clock takes half a minute, and lets the server send its next byte. */
  const clock = new EventEmitter()
  let time = 0
  const now = () => {
    clock.emit('look')
    return (time += 29_000)
  }
  async function* drip(): AsyncGenerator<Buffer> {
    for (;;) {
      yield Buffer.from('x')
      await once(clock, 'look')
    }
  }

  for (const [what, status] of [
    ['a text', 200],
    ['the text of a failure', 500],
    ['a file', 200],
  ] as const) {
    test(`fails ${what}`, () =>
      withCache({}, { lie: () => ({ status, body: drip() }) }, async ({ cache }) => {
        const waits: Waits = { ms: [], warnings: [] }
        const transport = transportTo(cache.url, waits, { now })
        const scratch = temporaryDirectory()
        const request =
          what === 'a file' ? transport.file('x', 1000, fetching(scratch)) : transport.text('x')
        await assert.rejects(request, netimageError('store-unavailable', /too slowly.*5 times/))
        assert.equal(cache.requests.length, 5)
        await transport.close()
      }))
  }

  test('is told from one that is only slow, and from a slow disk', async () => {
    const url = new URL('http://cache.example/')
    const received = async (sizes: number[], waitMs: number, saveMs: number) => {
      let at = 0
      async function* body() {
        for (const size of sizes) {
          await Promise.resolve()
          at += waitMs
          yield Buffer.alloc(size)
        }
      }
      let bytes = 0
      for await (const chunk of atSpeed(url, body(), () => at)) {
        bytes += chunk.length
        at += saveMs
      }
      return bytes
    }
    const many = Array.from({ length: 100 }, () => 8192)
    assert.equal(await received(many, 29_000, 0), 100 * 8192)
    assert.equal(await received([1, 1, 1, 1], 1000, 600_000), 4)
    await assert.rejects(received([1, 1, 1, 1], 29_000, 0), /less than 16384 bytes in 60 s/)
    await assert.rejects(received([20_000, 1, 1, 1], 29_000, 0), /too slowly/)
  })
})

suite('an answer that we do not read to its end closes its connection', () => {
  const encoded = { status: 200, headers: { 'content-encoding': 'compress' } }
  const scratch = temporaryDirectory()
  type Transport = ReturnType<typeof httpTransport>
  const answers: Record<
    string,
    [answer: { status: number; headers?: object }, ask: (transport: Transport) => Promise<unknown>]
  > = {
    'a text in an unknown encoding': [encoded, (transport) => transport.text('x')],
    'a file in an encoding': [encoded, (transport) => transport.file('x', 1000, fetching(scratch))],
    'a file that the disk does not take': [
      { status: 200 },
      (transport) => transport.file('x', 1000, fetching(join(scratch, 'gone'))),
    ],
    'a part that we did not ask for': [
      { status: 206, headers: { 'content-range': 'bytes 5-9/10' } },
      (transport) => transport.file('x', 1000, fetching(scratch)),
    ],
  }
  for (const [what, [{ status, headers = {} }, ask]] of Object.entries(answers)) {
    test(what, async () => {
      const closed: Promise<unknown>[] = []
      const server = createServer((_, response) => {
        closed.push(once(response, 'close'))
        response.writeHead(status, { ...headers })
        response.write('the beginning of an answer without an end')
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const address = server.address()
      assert.ok(address !== null && typeof address === 'object')
      const waits: Waits = { ms: [], warnings: [] }
      const transport = transportTo(`http://127.0.0.1:${address.port}`, waits)
      try {
        await assert.rejects(ask(transport))
        assert.ok(closed.length > 0)
        await waitFor('the connections close', Promise.all(closed))
      } finally {
        await transport.close()
        server.closeAllConnections()
        server.close()
      }
    })
  }
})
