import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { NetimageError } from '../../../src/errors.ts'
import { builtAddon } from '../../../src/addon.ts'
import { createNativePorts } from '../../../src/protocols/tftp/native-ports.ts'
import { decode, encode, type Packet } from '../../../src/protocols/tftp/packet.ts'
import { openDatagramPort, type PortOptions } from '../../../src/protocols/tftp/ports.ts'
import type { TftpServerOptions } from '../../../src/protocols/tftp/server.ts'
import { createTftpService } from '../../../src/protocols/tftp/service.ts'
import { defaultLimits } from '../../../src/protocols/tftp/sessions.ts'
import { turnsOf } from '../../roots/support/turns.ts'
import { netimageError } from '../../support/errors.ts'
import { filterThrough } from '../../support/programs.ts'
import { runProgram } from '../../support/real-nix.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'
import { buildAddon } from '../support/addon.ts'
import { burn } from '../support/burn.ts'
import { ack, openPeer, readRequest, type TftpPeer } from '../support/tftp-peer.ts'
import { serveTftp, type TestTftpServer } from '../support/tftp-server.ts'

const tree = temporaryDirectory()
const kernel = Buffer.alloc(100_000, 'kernel')
writeFileSync(join(tree, 'kernel'), kernel)
writeFileSync(join(tree, 'small'), 'small')

async function nextData(peer: TftpPeer): Promise<{ block: number; data: Buffer; port: number }> {
  const received = await peer.next()
  assert.equal(received?.packet.kind, 'data')
  return { ...received.packet, port: received.port }
}

async function nextError(peer: TftpPeer): Promise<{ code: number; message: string }> {
  const received = await peer.next()
  assert.equal(received?.packet.kind, 'error')
  return received.packet
}

interface Sizes {
  blksize: number
  windowsize: number
}

/** Acknowledges each window, and fails if a block comes twice or in another order. */
async function fetchByWindows(peer: TftpPeer, port: number, sizes: Sizes): Promise<Buffer> {
  peer.send(readRequest('kernel', { ...sizes }), port)
  const offer = await peer.next()
  assert.equal(offer?.packet.kind, 'oack')
  peer.send(ack(0), offer.port)
  const parts: Buffer[] = []
  for (let expected = 1; ; expected++) {
    const { block, data } = await nextData(peer)
    assert.equal(block, expected)
    parts.push(data)
    const isLast = data.length < sizes.blksize
    if (isLast || expected % sizes.windowsize === 0) peer.send(ack(expected), offer.port)
    if (isLast) break
  }
  await peer.assertNothing()
  return Buffer.concat(parts)
}

/** Acknowledges every block until the end. */
async function fetch(peer: TftpPeer, block: number): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let expected = block; ; expected++) {
    const { block: found, data, port } = await nextData(peer)
    assert.equal(found, expected)
    parts.push(data)
    peer.send(ack(expected), port)
    if (data.length < 512) return Buffer.concat(parts)
  }
}

async function isServed(port: number, file = 'kernel'): Promise<boolean> {
  const url = `tftp://127.0.0.1:${port}/${file}`
  const bytes = await filterThrough('curl', ['--silent', '--show-error', '--max-time', '900', url])
  return bytes.equals(kernel)
}

/** Whether the transfer of the last event has ended. */
function isOver({ events }: TestTftpServer): boolean {
  const last = events.at(-1)
  return last?.kind === 'tftp' && last.step === 'end'
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

const addonFile = buildAddon()

const ways: Record<string, Pick<TftpServerOptions, 'singlePort' | 'openPort'>> = {
  'on a single port': { singlePort: true },
  'with a port for each transfer': { openPort: openDatagramPort },
  'with a port of the addon for each transfer': {
    openPort: createNativePorts(addonFile) ?? assert.fail(),
  },
}

for (const [name, way] of Object.entries(ways)) {
  suite(`a TFTP server ${name}`, () => {
    test('sends a file, and reports it', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('/kernel'), server.port)
      assert.ok((await fetch(peer, 1)).equals(kernel))
      await waitUntil('the end is reported', () => server.events.length === 2)
      const event = { kind: 'tftp', address: '127.0.0.1', file: '/kernel', size: kernel.length }
      assert.deepEqual(server.events, [
        { ...event, step: 'begin', bytes: 512 },
        { ...event, step: 'end', bytes: kernel.length },
      ])
    })

    test('answers from the right port', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('small'), server.port)
      const { port } = await nextData(peer)
      assert.equal(port === server.port, way.singlePort === true)
    })

    test('starts one transfer for a repeated request', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      for (let count = 0; count < 3; count++) peer.send(readRequest('kernel'), server.port)
      const { port, block } = await nextData(peer)
      assert.equal(block, 1)
      peer.send(readRequest('kernel'), server.port)
      const again = await nextData(peer)
      assert.deepEqual([again.block, again.port], [1, port])
      peer.send(ack(1), port)
      // A request that comes after the answer was sent is answered once more.
      let next = await nextData(peer)
      while (next.block === 1) next = await nextData(peer)
      assert.deepEqual([next.block, next.port], [2, port])
      peer.send(readRequest('kernel'), server.port)
      peer.send(ack(2), port)
      await fetch(peer, 3)
      await waitUntil('the transfer ends', () => isOver(server))
      await server.close()
      await peer.assertNothing()
    })

    test('ends a transfer without an error packet if another request comes from the same port', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel', { tsize: 0 }), server.port)
      const offer = await peer.next()
      assert.equal(offer?.packet.kind, 'oack')
      peer.send(readRequest('kernel'), server.port)
      assert.ok((await fetch(peer, 1)).equals(kernel))
    })

    test('reports nothing for a client that only wants to know the size', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel', { tsize: 0 }), server.port)
      const offer = await peer.next()
      assert.deepEqual(offer?.packet, {
        kind: 'oack',
        options: [{ name: 'tsize', value: String(kernel.length) }],
      })
      peer.send({ kind: 'error', code: 8, message: 'Early terminate' }, offer.port)
      // A second client is served, then the server stops. It would send an error to a client that
      // it still served.
      await using second = await openPeer()
      second.send(readRequest('small'), server.port)
      assert.equal(String(await fetch(second, 1)), 'small')
      await waitUntil('the second transfer ends', () => isOver(server))
      await server.close()
      await peer.assertNothing()
      assert.ok(server.events.every((event) => event.kind === 'tftp' && event.file === 'small'))
    })

    test('sends a window at once, and sends again from the lost block', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel', { windowsize: 4 }), server.port)
      const offer = await peer.next()
      const port = offer?.port ?? assert.fail()
      peer.send(ack(0), port)
      const blocks = async () => {
        const found: number[] = []
        for (let count = 0; count < 4; count++) found.push((await nextData(peer)).block)
        return found
      }
      assert.deepEqual(await blocks(), [1, 2, 3, 4])
      peer.send(ack(2), port)
      assert.deepEqual(await blocks(), [3, 4, 5, 6])
    })

    test('sends windows of all sizes, and each block once', async () => {
      // The addon sends up to 64 packets and 65,000 bytes at once, and larger packets than those of Ethernet one by one.
      for (const sizes of [
        { blksize: 64, windowsize: 100 },
        { blksize: 500, windowsize: 5 },
        { blksize: 1300, windowsize: 50 },
        { blksize: 8192, windowsize: 4 },
        { blksize: 25_000, windowsize: 2 },
      ]) {
        for (const address of ['127.0.0.1', '::']) {
          await using server = await serveTftp(tree, { ...way, address })
          await using peer = await openPeer()
          assert.ok((await fetchByWindows(peer, server.port, sizes)).equals(kernel))
        }
      }
    })

    test('sends content that is kept in memory, although the file is another one by then', async (context) => {
      const { now } = Date
      // A file that was just written is not kept.
      context.mock.method(Date, 'now', () => now() + 60_000)
      const folder = temporaryDirectory()
      const [before, after] = [Buffer.alloc(20_000, 'before'), Buffer.alloc(20_000, 'after')]
      writeFileSync(join(folder, 'kernel'), before)
      await using server = await serveTftp(folder, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { data, port } = await nextData(peer)
      writeFileSync(join(folder, 'kernel'), after)
      utimesSync(join(folder, 'kernel'), 1000, 1000)
      peer.send(ack(1), port)
      assert.ok(Buffer.concat([data, await fetch(peer, 2)]).equals(before))
      await using other = await openPeer()
      other.send(readRequest('kernel'), server.port)
      assert.ok((await fetch(other, 1)).equals(after))
      const sizes = { blksize: 1000, windowsize: 3 }
      assert.ok((await fetchByWindows(other, server.port, sizes)).equals(after))
    })

    test('sends the old file to the end if the file is replaced', async () => {
      const folder = temporaryDirectory()
      writeFileSync(join(folder, 'kernel'), kernel)
      await using server = await serveTftp(folder, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { data, port } = await nextData(peer)
      writeFileSync(join(folder, 'new'), Buffer.alloc(kernel.length, 'other'))
      renameSync(join(folder, 'new'), join(folder, 'kernel'))
      peer.send(ack(1), port)
      assert.ok(Buffer.concat([data, await fetch(peer, 2)]).equals(kernel))
    })

    test('ends with an error if the file changes while it is sent', async () => {
      const folder = temporaryDirectory()
      writeFileSync(join(folder, 'kernel'), kernel)
      utimesSync(join(folder, 'kernel'), 1000, 1000)
      await using server = await serveTftp(folder, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { port } = await nextData(peer)
      writeFileSync(join(folder, 'kernel'), Buffer.alloc(kernel.length, 'other'))
      peer.send(ack(1), port)
      for (;;) {
        const received = await peer.next()
        if (received?.packet.kind === 'data') {
          peer.send(ack(received.packet.block), port)
          continue
        }
        assert.equal(received?.packet.kind, 'error')
        assert.match(received.packet.message, /changed while it was sent/)
        break
      }
      assert.equal(server.events.at(-1)?.kind === 'tftp' && server.events.at(-1)?.step, 'fail')
    })

    test('sends error 5 to another sender, and goes on with the transfer', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      await using stranger = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { port } = await nextData(peer)
      stranger.send(ack(1), port)
      assert.equal((await nextError(stranger)).code, 5)
      // An error is never answered with an error: two servers would answer each other forever.
      stranger.send({ kind: 'error', code: 5, message: '' }, port)
      peer.send(ack(1), port)
      assert.equal((await nextData(peer)).block, 2)
      await stranger.assertNothing()
    })

    const write: Packet = {
      kind: 'write',
      request: { file: 'new', mode: 'octet', options: [] },
    }
    const mail: Packet = { kind: 'read', request: { file: 'root', mode: 'mail', options: [] } }
    const noPacket = 'the packet is not TFTP'
    const noName = 'this name is not valid in a boot tree'
    const outside = '../../etc/passwd'
    const refusals: readonly (readonly [string, Packet | Buffer, number, string | undefined])[] = [
      ['a write', write, 2, 'refuse new: files can only be read here'],
      ['mail', mail, 4, 'refuse root: the mode mail is not supported'],
      ['an unknown operation', Buffer.from([0, 9, 0x61, 0]), 4, `refuse a: ${noPacket}`],
      ['a request without an end', Buffer.from('\0\x01kernel'), 4, `refuse kernel: ${noPacket}`],
      [
        'a request that is too long',
        encode(readRequest('k'.repeat(600))),
        4,
        `refuse ${'k'.repeat(80)}: ${noPacket}`,
      ],
      ['a single byte', Buffer.from([0]), 4, `refuse : ${noPacket}`],
      ['an acknowledgment without a transfer', ack(7), 5, undefined],
      ['a name that leads out', readRequest(outside), 2, `fail ${outside}: ${noName}`],
      ['a missing name', readRequest('none'), 1, 'missing none: undefined'],
      ['a folder', readRequest('/'), 2, `fail /: ${noName}`],
    ]
    for (const [what, packet, code, told] of refusals) {
      test(`refuses ${what} with error ${code}, and reports it`, async () => {
        await using server = await serveTftp(tree, way)
        await using peer = await openPeer()
        peer.send(packet, server.port)
        assert.equal((await nextError(peer)).code, code)
        const [event] = server.events
        const line = event?.kind === 'tftp' && `${event.step} ${event.file}: ${event.reason}`
        if (told === undefined) assert.deepEqual(server.events, [])
        else assert.equal(line, told)
        assert.ok(await isServed(server.port))
        assert.deepEqual(server.errors, [])
      })
    }

    test('opens few files during a flood from thousands of ports, and serves other clients', async () => {
      const limits = { ...defaultLimits, transfers: 64, transfersPerMachine: 48 }
      await using server = await serveTftp(tree, { ...way, limits })
      const peers = await Promise.all(Array.from({ length: 250 }, () => openPeer()))
      const descriptors = openDescriptors()
      let most = 0
      let served = 0
      const requests = ['kernel', 'none', 'small'].flatMap((file) => [
        encode(readRequest(file)),
        encode(readRequest(file, { blksize: 65464, windowsize: 65535 })),
      ])
      // 5,250 requests: another request from the same port counts as a new one.
      for (let round = 0; round < 21; round++) {
        const request = requests[round % requests.length] ?? assert.fail()
        for (const peer of peers) peer.send(request, server.port)
        for (let turn = 0; turn < 20; turn++) await nextTurn()
        most = Math.max(most, openDescriptors() - descriptors)
        if (round % 7 === 3 && (await isServed(server.port))) served++
      }
      assert.equal(served, 3)
      // For each transfer a file and maybe a socket; files that are being opened; the pipes of
      // curl.
      assert.ok(most <= 2 * limits.transfersPerMachine + 64 + 16, `${most} descriptors`)
      await server.close()
      for (const peer of peers) await peer[Symbol.asyncDispose]()
      assert.deepEqual(server.errors, [])
    })

    test('ends a stuck transfer only if there are too many transfers', async () => {
      const limits = { ...defaultLimits, transfers: 3, transfersPerMachine: 3 }
      await using server = await serveTftp(tree, { ...way, limits })
      await using peers = new AsyncDisposableStack()
      const started: { peer: TftpPeer; port: number }[] = []
      for (let count = 0; count < 3; count++) {
        const peer = peers.use(await openPeer())
        peer.send(readRequest('kernel'), server.port)
        const { port } = await nextData(peer)
        peer.send(ack(1), port)
        await nextData(peer)
        started.push({ peer, port })
      }
      const late = peers.use(await openPeer())
      late.send(readRequest('kernel'), server.port)
      for (const { peer, port } of started) {
        peer.send(ack(2), port)
        assert.equal((await nextData(peer)).block, 3)
      }
      await late.assertNothing()
    })

    test('ends a transfer if its client sends an error, however long', async () => {
      await using server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { port } = await nextData(peer)
      peer.send(ack(1), port)
      await nextData(peer)
      peer.send({ kind: 'error', code: 3, message: 'no room '.repeat(1000) }, port)
      await waitUntil('the end is reported', () => server.events.length === 2)
      const end = server.events[1]
      assert.ok(end?.kind === 'tftp' && end.step === 'fail')
      assert.match(end.reason ?? '', /^the machine ended the transfer: no room no room/)
      assert.ok(await isServed(server.port))
    })

    test('tells its clients when it is closed', async () => {
      const server = await serveTftp(tree, way)
      await using peer = await openPeer()
      peer.send(readRequest('kernel'), server.port)
      const { port } = await nextData(peer)
      peer.send(ack(1), port)
      await nextData(peer)
      await server.close()
      assert.match((await nextError(peer)).message, /the server is stopping/)
      assert.equal(server.events.at(-1)?.kind === 'tftp' && server.events.at(-1)?.step, 'fail')
    })
  })
}

test('the addon is taken from where it is built, and is not needed', () => {
  const { platform, arch } = process
  const file = join(import.meta.dirname, `../../../native/${platform}-${arch}.node`)
  assert.equal(builtAddon, file)
  assert.equal(createNativePorts(join(tree, 'none')), undefined)
  assert.equal(createNativePorts(join(tree, 'kernel')), undefined)
})

test('the addon refuses what it would write or read beyond, and what is no such value', () => {
  const another = join(temporaryDirectory(), 'another.node')
  copyFileSync(addonFile, another)
  const addon: unknown = createRequire(import.meta.url)(another)
  const call = (name: string, ...given: unknown[]) => {
    const found: unknown = Reflect.get(Object(addon), name)
    assert.ok(typeof found === 'function')
    Reflect.apply(found, undefined, given)
  }
  const [incoming, address] = [Buffer.alloc(64 * 2048), Buffer.alloc(16)]
  const refused: readonly (readonly [name: string, ...given: unknown[]])[] = [
    ['open', '127.0.0.1'],
    ['start'],
    ['start', incoming.subarray(1), () => {}],
    ['start', Buffer.alloc(0), () => {}],
    ['start', String(incoming), () => {}],
    ['start', { length: incoming.length }, () => {}],
    ['start', incoming],
    ['start', incoming, {}],
    ['socketAddress', 5, '69'],
    ['socketAddress', '127.0.0.1', 69],
    ['socketAddress', 'a'.repeat(1000), '69'],
    ['send', -1, 'packet', address],
    ['send', -1, incoming],
    ['send', '5', incoming, address],
    ['sendAll', -1, incoming, address],
    ['sendAll', -1, [incoming, 'packet'], address],
    ['sendAll', -1, [incoming, undefined, incoming], address],
    ['sendAll', -1, [incoming]],
    ['sendAll', '5', [incoming], address],
    ['close', 'all'],
  ]
  for (const [name, ...given] of refused) {
    assert.throws(() => call(name, ...given), Error, `${name} ${given.length}`)
  }
  call('start', incoming, () => {})
  assert.throws(() => call('start', incoming, () => {}), /once/)
  assert.throws(() => call('open', 5))
})

suite('a TFTP server', () => {
  test('is silent while no descriptor is left, and serves a client that asks again', async () => {
    const program = join(import.meta.dirname, '../support/tftp-without-descriptors-program.ts')
    const command = ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, program, tree]
    const said = await runProgram('sh', command)
    assert.equal(said, 'silence\nsilence\ndata\n')
  })

  test('is silent while another process uses the image, and serves a client that asks again', async () => {
    let isInUse = true
    const inUse = new NetimageError('in-use', 'another process uses the image')
    await using server = await serveTftp(tree, {
      treesOf: () => (isInUse ? Promise.reject(inUse) : { image: tree }),
    })
    await using peer = await openPeer()
    peer.send(readRequest('small'), server.port)
    await waitUntil('the failure is reported', () => server.events.length === 1)
    const event = { kind: 'tftp', address: '127.0.0.1', file: 'small', bytes: 0 }
    assert.deepEqual(server.events, [{ ...event, step: 'fail', reason: inUse.message }])
    isInUse = false
    peer.send(readRequest('small'), server.port)
    assert.deepEqual((await nextData(peer)).data, Buffer.from('small'))
  })

  test('serves other machines while many files of one machine cannot be opened', async () => {
    const ofOne = ['127.0.0.1', '127.0.0.3']
    const opened = Promise.withResolvers<void>()
    let asked = 0
    await using server = await serveTftp(tree, {
      clientAt: (ip) => ({ name: ofOne.includes(ip) ? 'one' : ip, isServed: true }),
      async treesOf({ address }) {
        if (ofOne.includes(address)) {
          asked++
          await opened.promise
        }
        return { image: tree }
      },
    })
    await using peers = new AsyncDisposableStack()
    for (let count = 0; count < 64; count++) {
      const peer = peers.use(await openPeer(ofOne[count % 2]))
      peer.send(readRequest('small'), server.port)
    }
    await waitUntil('it opens files', () => asked > 0)
    const other = peers.use(await openPeer('127.0.0.2'))
    other.send(readRequest('small'), server.port)
    assert.deepEqual((await nextData(other)).data, Buffer.from('small'))
    assert.equal(asked, 16)
    opened.resolve()
  })

  test('works for one machine only for a while in each turn, however many transfers it has', async () => {
    const [transfers, windowSize] = [16, 8]
    const ports: PortOptions[] = []
    let sent = 0
    const service = createTftpService(
      {
        ...{ address: '127.0.0.1', treesOf: () => ({ image: tree }), report: () => {} },
        onError: assert.ifError,
        clientAt: () => ({ name: 'one', isServed: true }),
        openPort(options) {
          ports.push(options)
          return {
            send(packet) {
              if (decode(packet)?.kind !== 'data') return
              sent++
              // A window takes longer than the share of a machine.
              burn(0.5)
            },
            close() {},
          }
        },
      },
      () => assert.fail('nothing is sent from the port of the server'),
    )
    const request = encode(readRequest('kernel', { windowsize: windowSize }))
    for (let index = 0; index < transfers; index++) {
      service.receive(request, { host: `127.0.0.${2 + (index % 2)}`, port: 1000 + index })
    }
    await waitUntil('all files are open', () => ports.length === transfers)
    const bytes = encode(ack(0))
    for (const { receive } of ports) {
      receive(Buffer.from(bytes))
    }
    // No client answers, so each window is sent once more.
    let [before, most] = [0, 0]
    const wanted = Promise.withResolvers<void>()
    await turnsOf(wanted.promise, () => {
      most = Math.max(most, sent - before)
      before = sent
      if (sent >= 2 * transfers * windowSize) wanted.resolve()
    })
    // Between two looks, two turns can begin.
    assert.ok(most <= 2 * windowSize, `${most} packets in a turn`)
    service.close()
  })

  test('keeps the packets of a client that wait for the turn of its machine', async () => {
    const ports: PortOptions[] = []
    const sent: number[] = []
    const service = createTftpService(
      {
        ...{ address: '127.0.0.1', treesOf: () => ({ image: tree }), report: () => {} },
        onError: assert.ifError,
        openPort(options) {
          ports.push(options)
          return {
            send(packet) {
              const decoded = decode(packet)
              if (decoded?.kind === 'data') sent.push(decoded.block)
              burn(4)
            },
            close() {},
          }
        },
      },
      () => {},
    )
    service.receive(encode(readRequest('kernel')), { host: '127.0.0.2', port: 1000 })
    await waitUntil('the file is open', () => sent.length === 1)
    const bytes = Buffer.alloc(4)
    for (const block of [1, 2, 3]) {
      encode(ack(block)).copy(bytes)
      ports[0]?.receive(bytes)
    }
    bytes.fill(0xff)
    await waitUntil('three more blocks are sent', () => sent.length === 4)
    assert.deepEqual(sent, [1, 2, 3, 4])
    service.close()
  })

  test('tells why it cannot listen', async () => {
    await using server = await serveTftp(tree)
    const details = { field: 'TFTP (UDP)', actual: `127.0.0.1:${server.port}` }
    await assert.rejects(
      serveTftp(tree, { port: server.port }),
      netimageError('cannot-listen', details),
    )
  })

  test('stops when its signal is aborted', async () => {
    const controller = new AbortController()
    const server = await serveTftp(tree, { signal: controller.signal })
    controller.abort()
    await server.close()
    await using again = await serveTftp(tree, { port: server.port })
    assert.equal(again.port, server.port)
  })

  for (const [name, way] of Object.entries(ways)) {
    test(`serves over IPv6 ${name}`, async () => {
      await using server = await serveTftp(tree, { address: '::1', ...way })
      const bytes = await filterThrough('curl', ['--silent', `tftp://[::1]:${server.port}/kernel`])
      assert.ok(bytes.equals(kernel))
    })

    test(`serves IPv4 on a socket of IPv6 ${name}`, async () => {
      await using server = await serveTftp(tree, { address: '::', ...way })
      assert.ok(await isServed(server.port))
      assert.equal(server.events[0]?.address, '127.0.0.1')
    })
  }
})
