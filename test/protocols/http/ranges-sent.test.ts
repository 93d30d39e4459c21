// Files sent by copies and by the addon: the same bytes, and no mix of old and new ones.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import type { ServeEvent } from '../../../src/protocols/event.ts'
import { copyRange, type SendRange } from '../../../src/protocols/http/body.ts'
import { createKernelRanges } from '../../../src/protocols/http/kernel-ranges.ts'
import { startHttpServer } from '../../../src/protocols/http/server.ts'
import { filterThrough } from '../../support/programs.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'
import { buildAddon } from '../support/addon.ts'

const image = temporaryDirectory()
const kernel = randomBytes(9_000_000)
writeFileSync(join(image, 'kernel'), kernel)
const addonFile = buildAddon()
const byKernel = createKernelRanges(copyRange, addonFile) ?? assert.fail('the addon is not loaded')

async function serve(sendRange: SendRange) {
  const events: ServeEvent[] = []
  const errors: string[] = []
  const { port, close } = await startHttpServer({
    ...{ address: '127.0.0.1', port: 0, sendRange },
    treesOf: () => ({ image }),
    report: (event) => events.push(event),
    onError: (error) => errors.push(error.message),
  })
  const url = `http://127.0.0.1:${port}`
  return { port, url, events, errors, [Symbol.asyncDispose]: close }
}

function curl(...args: string[]): Promise<Buffer> {
  return filterThrough('curl', ['--silent', '--show-error', '--max-time', '900', ...args])
}

/** A client that has sent its requests, and reads nothing yet. */
async function ask(port: number, ...files: string[]) {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.pause()
  await once(socket, 'connect')
  for (const [index, file] of files.entries()) {
    const connection = index === files.length - 1 ? 'close' : 'keep-alive'
    socket.write(`GET /${file} HTTP/1.1\r\nHost: x\r\nConnection: ${connection}\r\n\r\n`)
  }
  return socket
}

for (const [name, sendRange] of Object.entries({
  'as copies': copyRange,
  'by the kernel': byKernel,
})) {
  suite(`an HTTP server that sends files ${name}`, () => {
    test('sends a file, and parts of it', async () => {
      await using server = await serve(sendRange)
      assert.ok((await curl(`${server.url}/kernel`)).equals(kernel))
      for (const [first, last] of [
        [0, 0],
        [1, 300_000],
        [4095, 262_144 + 4095],
        [8_000_000, 8_999_999],
      ] as const) {
        const part = await curl('--range', `${first}-${last}`, `${server.url}/kernel`)
        assert.ok(part.equals(kernel.subarray(first, last + 1)), `${first}-${last}`)
      }
      const several = await curl('--range', '10-999999,2000000-2999999', `${server.url}/kernel`)
      for (const [from, to] of [
        [10, 1_000_000],
        [2_000_000, 3_000_000],
      ] as const) {
        assert.ok(several.includes(kernel.subarray(from, to)))
      }
      const ends = () =>
        server.events.flatMap((event) =>
          event.kind === 'http' && event.step === 'end' ? [event.bytes] : [],
        )
      await waitUntil('all ends are reported', () => ends().length === 6)
      assert.deepEqual(ends(), [9_000_000, 1, 300_000, 262_145, 1_000_000, 1_999_990])
      assert.deepEqual(server.errors, [])
    })

    test('sends several files by one connection, to a client that reads late', async () => {
      await using server = await serve(sendRange)
      const socket = await ask(server.port, 'kernel', 'kernel', 'none')
      await waitUntil('the first is begun', () => server.events.length > 0)
      const bytes = await buffer(socket)
      const first = bytes.indexOf('\r\n\r\n') + 4
      assert.ok(bytes.subarray(first, first + kernel.length).equals(kernel))
      const rest = bytes.subarray(first + kernel.length)
      assert.match(rest.toString('latin1', 0, 15), /^HTTP\/1\.1 200 OK/)
      const second = rest.indexOf('\r\n\r\n') + 4
      assert.ok(rest.subarray(second, second + kernel.length).equals(kernel))
      assert.match(rest.toString('latin1', second + kernel.length), /^HTTP\/1\.1 404 /)
    })

    for (const [change, act] of Object.entries({
      'is written to': (file: string) => writeFileSync(file, Buffer.alloc(30_000_000, 'new')),
      'becomes shorter': (file: string) => truncateSync(file, 29_000_000),
    })) {
      test(`breaks off if a file ${change} while it is sent`, async () => {
        await using server = await serve(sendRange)
        writeFileSync(join(image, 'changing'), Buffer.alloc(30_000_000, 'old'))
        const socket = await ask(server.port, 'changing')
        await waitUntil('it is begun', () => server.events.length > 0)
        act(join(image, 'changing'))
        const received = await buffer(socket)
        assert.ok(received.length < 30_000_000)
        const last = server.events.at(-1)
        assert.ok(last?.kind === 'http' && last.step === 'fail')
        assert.match(last.reason ?? '', /the file (changed|became shorter) while it was sent/)
      })
    }

    test('closes the connection of a client that is gone', async () => {
      await using server = await serve(sendRange)
      const socket = await ask(server.port, 'kernel')
      await waitUntil('it is begun', () => server.events.length > 0)
      socket.resetAndDestroy()
      await waitUntil('the end is reported', () => server.events.length === 2)
      const last = server.events.at(-1)
      assert.ok(last?.kind === 'http' && last.step === 'fail')
      assert.deepEqual(server.errors, [])
    })
  })
}

test('what the kernel holds for a client is not what was written to the file since then', async () => {
  const size = 400_000
  let taken = 0
  await using server = await serve((response, sent) =>
    byKernel(response, {
      ...sent,
      onBytes(count) {
        taken += count
        sent.onBytes(count)
      },
    }),
  )
  const file = join(image, 'queued')
  writeFileSync(file, Buffer.alloc(size, 'o'))
  const socket = await ask(server.port, 'queued')
  // All but the small end, which is sent after the client has the rest.
  await waitUntil('nearly all waits in the connection', () => taken > size - 20_000)
  writeFileSync(file, Buffer.alloc(size, 'n'))
  const received = await buffer(socket)
  assert.ok(received.length < size, `${received.length} bytes`)
  const last = server.events.at(-1)
  assert.ok(last?.kind === 'http' && last.step === 'fail')
})

test('the addon sends to connections only', () => {
  const addon: unknown = createRequire(import.meta.url)(addonFile)
  const call = (name: string, ...given: unknown[]): unknown => {
    const found: unknown = Reflect.get(Object(addon), name)
    return Reflect.apply(typeof found === 'function' ? found : assert.fail(), undefined, given)
  }
  const [from, to] = [openSync(join(image, 'kernel'), 'r'), openSync(join(image, 'other'), 'w')]
  assert.equal(call('sendFile', to, from, 0, 1000), -1)
  assert.equal(call('sendFile', -1, from, 0, 1000), -1)
  assert.equal(readFileSync(join(image, 'other')).length, 0)
  assert.equal(call('unacknowledged', to), 0)
  for (const given of [
    [],
    ['1', from, 0, 1],
    [to, from, 0, 0],
    [to, from, 0, -5],
    [to, from, 0, {}],
  ]) {
    assert.throws(() => call('sendFile', ...given), TypeError)
  }
  assert.throws(() => call('unacknowledged', 'x'), TypeError)
  for (const file of [from, to]) closeSync(file)
})

test('the addon is not needed', () => {
  assert.equal(createKernelRanges(copyRange, join(image, 'none')), undefined)
  assert.equal(createKernelRanges(copyRange, join(image, 'kernel')), undefined)
})
