// The HTTP server's answers to curl, and to hostile clients.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect, type Socket } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import { NetimageError } from '../../../src/errors.ts'
import type { ServeEvent } from '../../../src/protocols/event.ts'
import { startHttpServer, type HttpServerOptions } from '../../../src/protocols/http/server.ts'
import { turnsOf } from '../../roots/support/turns.ts'
import { netimageError } from '../../support/errors.ts'
import { filterThrough } from '../../support/programs.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'
import { burn } from '../support/burn.ts'

const directory = temporaryDirectory()
const tree = join(directory, 'boot')
const kernel = randomBytes(3_000_000)
mkdirSync(join(tree, 'nixos'), { recursive: true })
writeFileSync(join(tree, 'nixos', 'kernel with spaces'), kernel)
writeFileSync(join(tree, 'bootx64.efi'), 'MZ')
writeFileSync(join(tree, 'empty'), '')
// More than fits into the buffers of a connection.
writeFileSync(join(tree, 'large'), '')
truncateSync(join(tree, 'large'), 200_000_000)
writeFileSync(join(directory, 'secret'), 'secret')

const kernelPath = '/nixos/kernel%20with%20spaces'

async function serve(options: Partial<HttpServerOptions> = {}) {
  const events: ServeEvent[] = []
  const errors: string[] = []
  const { port, close } = await startHttpServer({
    ...{ address: '127.0.0.1', port: 0 },
    treesOf: () => ({ image: tree }),
    report: (event) => events.push(event),
    onError: (error) => errors.push(error.message),
    ...options,
  })
  const url = `http://127.0.0.1:${port}`
  return { port, url, events, errors, close, [Symbol.asyncDispose]: close }
}

function curl(...args: string[]): Promise<Buffer> {
  return filterThrough('curl', ['--silent', '--show-error', '--max-time', '900', ...args])
}

/** Status line, header fields in lower case, and body. */
async function exchange(...args: string[]) {
  const bytes = await curl('--include', '--path-as-is', ...args)
  const end = bytes.indexOf('\r\n\r\n')
  const [status = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n')
  const fields = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
    }),
  )
  return { status: Number(status.split(' ')[1]), fields, body: bytes.subarray(end + 4) }
}

/** Where the descriptors of this process lead to. */
function openPlaces(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      // That of `readdirSync` itself.
      return []
    }
  })
}

function openSockets(): number {
  return openPlaces().filter((place) => place.startsWith('socket:')).length
}

function isOpen(file: string): boolean {
  return openPlaces().includes(join(tree, file))
}

async function open(port: number, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** The beginning of the server's answer to these bytes. */
async function answerTo(port: number, request: string): Promise<string> {
  const socket = await open(port)
  socket.write(request)
  await once(socket, 'readable')
  const answer = String(socket.read())
  socket.destroy()
  return answer
}

suite('an HTTP server', () => {
  test('sends a file with its length and type, and reports it', async () => {
    await using server = await serve()
    const { status, fields, body } = await exchange(server.url + kernelPath)
    assert.equal(status, 200)
    assert.equal(fields.get('content-length'), String(kernel.length))
    assert.equal(fields.get('content-type'), 'application/octet-stream')
    assert.equal(fields.get('accept-ranges'), 'bytes')
    assert.ok(body.equals(kernel))
    const file = '/nixos/kernel with spaces'
    const event = { kind: 'http', address: '127.0.0.1', file, size: kernel.length }
    assert.deepEqual(server.events, [
      { ...event, step: 'begin', bytes: 0 },
      { ...event, step: 'end', bytes: kernel.length },
    ])
  })

  test('answers the HEAD of UEFI with the length, without the file', async () => {
    await using server = await serve()
    const { status, fields, body } = await exchange('--head', `${server.url}/bootx64.efi`)
    assert.equal(status, 200)
    assert.equal(fields.get('content-length'), '2')
    assert.equal(fields.get('content-type'), 'application/efi')
    assert.equal(body.length, 0)
    assert.deepEqual(server.events, [])
  })

  test('answers HEAD with the length of the whole file, even if it has a range', async () => {
    await using server = await serve()
    const range = ['--header', 'Range: bytes=0-0']
    const { status, fields } = await exchange('--head', ...range, `${server.url}/bootx64.efi`)
    assert.equal(status, 200)
    assert.equal(fields.get('content-length'), '2')
  })

  test('keeps a connection for a file, a missing file and an empty file', async () => {
    await using server = await serve()
    const socket = await open(server.port)
    const answer = text(socket)
    for (const path of ['/bootx64.efi', '/none', '/empty']) {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    }
    socket.write('GET /bootx64.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    const statuses = [...(await answer).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, code]) => code)
    assert.deepEqual(statuses, ['200', '404', '200', '200'])
  })

  test('sends a range, several ranges, and the rest of an interrupted download', async () => {
    await using server = await serve()
    const one = await exchange('--range', '1000-1999', server.url + kernelPath)
    assert.equal(one.status, 206)
    assert.equal(one.fields.get('content-range'), `bytes 1000-1999/${kernel.length}`)
    assert.ok(one.body.equals(kernel.subarray(1000, 2000)))

    const many = await exchange('--range', '0-9,100-109,-5', server.url + kernelPath)
    assert.equal(many.status, 206)
    assert.equal(many.fields.get('content-length'), String(many.body.length))
    const [, boundary = ''] =
      /^multipart\/byteranges; boundary=(.*)$/.exec(many.fields.get('content-type') ?? '') ?? []
    const parts = many.body.toString('latin1').split(`\r\n--${boundary}`)
    assert.equal(parts.length, 5)
    assert.equal(parts[4], '--\r\n')
    for (const [index, [first, last]] of [
      [0, 9],
      [100, 109],
      [kernel.length - 5, kernel.length - 1],
    ].entries()) {
      const [head = '', ...rest] = (parts[index + 1] ?? '').split('\r\n\r\n')
      assert.match(head, new RegExp(`Content-Range: bytes ${first}-${last}/${kernel.length}`))
      const content = Buffer.from(rest.join('\r\n\r\n'), 'latin1')
      assert.ok(content.equals(kernel.subarray(first, (last ?? 0) + 1)))
    }

    const partial = join(directory, 'partial')
    writeFileSync(partial, kernel)
    truncateSync(partial, 1_234_567)
    await curl('--continue-at', '-', '--output', partial, server.url + kernelPath)
    assert.ok(readFileSync(partial).equals(kernel))
  })

  test('answers 416 if no range is within the file', async () => {
    await using server = await serve()
    const { status, fields } = await exchange('--range', '9999999-', server.url + kernelPath)
    assert.equal(status, 416)
    assert.equal(fields.get('content-range'), `bytes */${kernel.length}`)
  })

  test('sends a range for If-Range only if the file is the same', async () => {
    await using server = await serve()
    const url = `${server.url}/changing`
    writeFileSync(join(tree, 'changing'), 'first content')
    utimesSync(join(tree, 'changing'), 1000, 1000)
    const { fields } = await exchange(url)
    const tag = fields.get('etag') ?? assert.fail()
    const rest = ['--range', '6-', '--header', `If-Range: ${tag}`, url]
    assert.equal((await exchange(...rest)).status, 206)
    const unchanged = ['--header', `If-None-Match: ${tag}`, url]
    assert.equal((await exchange(...unchanged)).status, 304)
    assert.equal((await exchange('--header', `If-Match: "other"`, url)).status, 412)
    const since = `If-Modified-Since: ${fields.get('last-modified')}`
    assert.equal((await exchange('--header', since, url)).status, 304)
    writeFileSync(join(tree, 'changing'), 'other content')
    const whole = await exchange(...rest)
    assert.equal(whole.status, 200)
    assert.equal(whole.body.toString(), 'other content')
    assert.equal((await exchange(...unchanged)).status, 200)
  })

  for (const [path, status] of [
    ['/none', 404],
    ['/nixos', 404],
    ['/', 400],
    ['/../secret', 400],
    ['/nixos/%2e%2e/%2e%2e/secret', 400],
    ['/nixos%2f..%2f..%2fsecret', 400],
    ['/..%5csecret', 400],
    ['/a%00b', 400],
    ['/%zz', 400],
    ['/%ff', 400],
    ['/bootx64.efi?a=b', 200],
    ['/api/machines', 404],
  ] as const) {
    test(`answers ${path} with ${status}`, async () => {
      await using server = await serve()
      const answer = await exchange(server.url + path)
      assert.equal(answer.status, status)
      assert.ok(!answer.body.includes('secret'))
      assert.ok(answer.body.length < 200)
    })
  }

  for (const [request, status] of [
    ['POST /bootx64.efi HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc', 405],
    ['PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', 405],
    ['DELETE /bootx64.efi HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['GET nixos HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['GET http://elsewhere/bootx64.efi HTTP/1.1\r\nHost: x\r\n\r\n', 200],
    ['GET /bootx64.efi HTTP/1.0\r\n\r\n', 200],
    ['GET /bootx64.efi HTTP/1.1\r\n\r\n', 400],
    ['\0\0\0\r\n\r\n', 400],
    [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
    [`GET / HTTP/1.1\r\nHost: x\r\n${'A: b\r\n'.repeat(5000)}\r\n`, 431],
  ] as const) {
    test(`answers ${JSON.stringify(request.slice(0, 40))} with ${status}`, async () => {
      await using server = await serve()
      assert.match(await answerTo(server.port, request), new RegExp(`^HTTP/1\\.1 ${status} `))
      assert.deepEqual(server.errors, [])
    })
  }

  test('serves its knowledge as JSON', async () => {
    const machine = { mac: '02:00:00:00:00:01', step: 'mount' }
    const machines = new Map<string, object>([
      [machine.mac, machine],
      ['10.0.0.9', { step: 'dhcp' }],
    ])
    const images = [{ label: 'one' }]
    await using server = await serve({
      knowledge: { machines: () => machines, images: () => images, isFor: () => true },
    })
    const json = async (path: string): Promise<unknown> =>
      JSON.parse((await curl(`${server.url}${path}`)).toString())
    assert.deepEqual(await json('/api/machines'), [machine, { step: 'dhcp' }])
    assert.deepEqual(await json('/api/machines/02:00:00:00:00:01'), machine)
    assert.deepEqual(await json('/api/machines/02-00-00-00-00-01'), machine)
    assert.deepEqual(await json('/api/images'), images)
    for (const path of ['/api/machines/02:00:00:00:00:02', '/api/', '/api/images/x', '/api/x']) {
      assert.equal((await exchange(server.url + path)).status, 404)
    }
    assert.equal((await exchange('--data', 'x', `${server.url}/api/images`)).status, 405)
  })

  test('answers 503 while its knowledge is not known', async () => {
    const inUse = () => Promise.reject(new NetimageError('in-use', 'a process is busy'))
    const knowledge = { machines: inUse, images: inUse, isFor: () => true }
    await using server = await serve({ knowledge })
    for (const path of ['/api/machines', '/api/images']) {
      const answer = (await curl('--include', server.url + path)).toString()
      assert.match(answer, /^HTTP\/1\.1 503 /)
      assert.match(answer, /^Retry-After: 1\r$/m)
    }
    assert.deepEqual(server.errors, [])
  })

  test('serves its knowledge only to served machines and this one, and only by its own name', async () => {
    const knowledge = {
      machines: () => new Map<string, object>(),
      images: () => [{ label: 'one' }],
      isFor: (address: string) => address === '127.0.0.1',
    }
    await using server = await serve({ knowledge })
    const url = `${server.url}/api/images`
    const status = async (...args: string[]) => (await exchange(...args, url)).status
    assert.equal(await status(), 200)
    assert.equal(await status('--interface', '127.0.0.2'), 403)
    // The request of a browser for a page of an attacker (DNS rebinding).
    for (const [host, expected] of [
      ['evil.example', 403],
      ['127.0.0.1.evil.example:80', 403],
      [`127.0.0.1:${server.port}`, 200],
      ['[::1]:80', 200],
      ['LOCALHOST', 200],
      [hostname(), 200],
    ] as const) {
      assert.equal(await status('--header', `Host: ${host}`), expected, host)
    }
    assert.equal(
      (await exchange('--header', 'Host: x.example', `${server.url}/bootx64.efi`)).status,
      200,
    )
  })

  for (const [request, file, reason] of [
    [
      'GET boot.ipxe HTTP/1.0\r\n\r\n',
      'boot.ipxe',
      /does not begin with a slash: it must be \/boot\.ipxe/,
    ],
    ['GET /a HTTP/1.1\r\n\r\n', '/a', /has no Host/],
    ['\x16\x03\x01\x02\0\x01\0\x01\xfc', '', /is not HTTP/],
    [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`, /^\/x{199}$/, /is not HTTP/],
    ['POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', '/a', /POST/],
    ['GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n', '/%zz', /no valid path/],
  ] as const) {
    test(`reports the request ${JSON.stringify(request.slice(0, 30))}, which is invalid`, async () => {
      await using server = await serve()
      await answerTo(server.port, request)
      const [event, ...more] = server.events
      assert.ok(event?.kind === 'http' && event.step === 'refuse', JSON.stringify(event))
      assert.equal(event.address, '127.0.0.1')
      if (typeof file === 'string') assert.equal(event.file, file)
      else assert.match(event.file, file)
      assert.match(event.reason ?? '', reason)
      assert.deepEqual(more, [])
    })
  }

  test('does not wait long for the rest of a header, however slowly it comes', async () => {
    const limits = { connections: 60, connectionsPerAddress: 40, idleSeconds: 900 }
    await using server = await serve({ limits: { ...limits, headerSeconds: 0.1 } })
    const socket = await open(server.port)
    socket.write('GET /bootx64.efi HTTP/1.1\r\n')
    assert.match(await text(socket), /^HTTP\/1\.1 408 /)
    assert.deepEqual(server.events, [])
  })

  test('does not write an error into a file when an invalid request follows', async () => {
    await using server = await serve()
    const socket = await open(server.port)
    socket.write(`GET ${kernelPath} HTTP/1.1\r\nHost: x\r\n\r\nbroken\r\n\r\n`)
    assert.doesNotMatch(await text(socket), /HTTP\/1\.1 400/)
    assert.ok(server.events.some(({ step }) => step === 'refuse'))
  })

  test('closes the file and the connection if the client disconnects in the middle', async () => {
    await using server = await serve()
    const before = openSockets()
    const socket = await open(server.port)
    socket.write('GET /large HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(socket, 'data')
    socket.destroy()
    await waitUntil('the end is reported', () => server.events.length >= 2)
    const [, last] = server.events
    assert.ok(last?.kind === 'http' && last.step === 'fail' && last.bytes < 100_000_000)
    const isClosed = () => openSockets() === before && !isOpen('large')
    await waitUntil('the file and the connection are closed', isClosed)
  })

  test('forgets all requests that a client has sent, and closes its file, if it disconnects', async () => {
    await using server = await serve()
    const before = openSockets()
    const socket = await open(server.port)
    const request = `GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`
    socket.write(request.repeat(3))
    const begun = () => server.events.filter(({ step }) => step === 'begin').length
    await waitUntil('the server works on the first', () => begun() === 1)
    socket.destroy()
    await waitUntil('the end is reported', () => server.events.length === 2)
    assert.ok(server.events.every(({ step }) => step === 'begin' || step === 'fail'))
    const isClosed = () => openSockets() === before && !isOpen('large')
    await waitUntil('the file and the connection are closed', isClosed)
    assert.equal(begun(), 1)
  })

  test('breaks off if the file changes while it is sent', async () => {
    await using server = await serve()
    const large = join(tree, 'rewritten')
    writeFileSync(large, Buffer.alloc(30_000_000))
    utimesSync(large, 1000, 1000)
    const socket = await open(server.port)
    socket.pause()
    socket.write('GET /rewritten HTTP/1.1\r\nHost: x\r\n\r\n')
    await waitUntil('the beginning is reported', () => server.events.length > 0)
    writeFileSync(large, Buffer.alloc(30_000_000, 1))
    let received = 0
    for await (const chunk of socket) received += Buffer.isBuffer(chunk) ? chunk.length : 0
    assert.ok(received < 30_000_000)
    const last = server.events.at(-1)
    assert.ok(last?.kind === 'http' && last.step === 'fail')
    assert.match(last.reason ?? '', /the file changed while it was sent/)
  })

  test('serves other clients during a flood of connections from many addresses', async () => {
    const limits = { connections: 60, connectionsPerAddress: 40, idleSeconds: 60 }
    await using server = await serve({ limits })
    // This client is in the middle of its file.
    const busy = await open(server.port)
    busy.write(`GET ${kernelPath} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await once(busy, 'readable')
    const sockets: Socket[] = []
    for (let count = 0; count < 300; count++) {
      const socket = await open(server.port, `127.0.0.${2 + (count % 10)}`)
      socket.resume()
      socket.write('GET /bootx64.efi HTTP/1.1\r\nHo')
      sockets.push(socket)
    }
    assert.equal((await exchange(`${server.url}/bootx64.efi`)).status, 200)
    const left = sockets.filter((socket) => !socket.destroyed && socket.readyState === 'open')
    assert.ok(left.length <= limits.connections, `${left.length} connections`)
    let received = 0
    for await (const chunk of busy) {
      received += Buffer.isBuffer(chunk) ? chunk.length : 0
      if (received > kernel.length) break
    }
    for (const socket of sockets) socket.destroy()
    assert.deepEqual(server.errors, [])
  })

  test('opens one file at a time for a connection, and answers its requests in order', async () => {
    let opened = 0
    await using server = await serve({ treesOf: () => (opened++, { image: tree }) })
    const socket = await open(server.port)
    const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
    // Nothing reads the large file yet, so the requests after it wait.
    socket.pause()
    socket.write(request('/large') + request('/bootx64.efi').repeat(20))
    await waitUntil('the large file is begun', () => server.events.length === 1)
    assert.ok(await exchange(`${server.url}/bootx64.efi`))
    assert.equal(opened, 2)
    socket.resume()
    await waitUntil('all are answered', () => server.events.length === 44)
    assert.equal(opened, 22)
    socket.destroy()
  })

  test('closes a connection with very many requests that wait', async () => {
    let opened = 0
    await using server = await serve({ treesOf: () => (opened++, { image: tree }) })
    const socket = await open(server.port)
    socket.write('GET /large HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1500))
    socket.resume()
    await once(socket, 'close')
    assert.ok(opened <= 1, `${opened} files`)
    assert.equal((await exchange(`${server.url}/bootx64.efi`)).status, 200)
    assert.deepEqual(server.errors, [])
  })

  test('works for one machine only for a while in each turn, however many connections it has', async () => {
    let [accepted, found] = [0, 0]
    const ofOne = ['127.0.0.2', '127.0.0.3']
    await using server = await serve({
      clientAt(ip) {
        accepted++
        return { name: ofOne.includes(ip) ? 'one' : ip, isServed: true }
      },
      treesOf() {
        found++
        // Longer than the share of a machine.
        burn(4)
        return { image: tree }
      },
    })
    const sockets = await Promise.all(
      Array.from({ length: 32 }, (_, index) => open(server.port, ofOne[index % 2])),
    )
    // Node accepts one connection in a turn.
    await waitUntil('all connections are accepted', () => accepted === 32)
    const answers = sockets.map((socket) => text(socket))
    for (const socket of sockets) {
      socket.write('GET /bootx64.efi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    }
    let [before, most] = [0, 0]
    await turnsOf(
      Promise.all(answers).then(() => {}),
      () => {
        most = Math.max(most, found - before)
        before = found
      },
    )
    assert.equal(found, 32)
    // Between two looks, two turns can begin.
    assert.ok(most <= 2, `${most} files in a turn`)
    for (const answer of await Promise.all(answers)) assert.match(answer, /200 OK[^]*MZ$/)
  })

  test('closes an idle connection', async () => {
    const limits = { connections: 60, connectionsPerAddress: 40, idleSeconds: 0.2 }
    await using server = await serve({ limits })
    const socket = await open(server.port)
    socket.resume()
    socket.write('GET /bootx64.efi HTTP/1.1\r\nHo')
    await once(socket, 'close')
  })

  test('does not answer a client of another network', async () => {
    await using server = await serve({ hears: (address) => address === '127.0.0.1' })
    assert.equal((await exchange(`${server.url}/bootx64.efi`)).status, 200)
    const stranger = ['--interface', '127.0.0.2', `${server.url}/bootx64.efi`]
    await assert.rejects(curl(...stranger))
    assert.equal(server.events.length, 2)
  })

  test('tells why it cannot listen', async () => {
    await using server = await serve()
    const details = { field: 'HTTP (TCP)', actual: `127.0.0.1:${server.port}` }
    await assert.rejects(serve({ port: server.port }), netimageError('cannot-listen', details))
  })
})
