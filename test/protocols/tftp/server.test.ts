import assert from 'node:assert/strict'
import { readdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { NetimageError } from '../../../src/errors.ts'
import { encode, type Packet } from '../../../src/protocols/tftp/packet.ts'
import { filterThrough } from '../../support/programs.ts'
import { runProgram } from '../../support/real-nix.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'
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

/** Acknowledges all that comes, to the end. */
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
  const bytes = await filterThrough('curl', ['--silent', '--show-error', '--max-time', '30', url])
  return bytes.equals(kernel)
}

/** Whether the transfer that was told of last has ended. */
function isOver({ events }: TestTftpServer): boolean {
  const last = events.at(-1)
  return last?.kind === 'tftp' && last.step === 'end'
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

for (const singlePort of [false, true]) {
  suite(
    `a TFTP server ${singlePort ? 'on a single port' : 'with a port for each transfer'}`,
    () => {
      test('sends a file, and tells so', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('/kernel'), server.port)
        assert.ok((await fetch(peer, 1)).equals(kernel))
        await waitUntil('the end is told', () => server.events.length === 2)
        const event = { kind: 'tftp', address: '127.0.0.1', file: '/kernel', size: kernel.length }
        assert.deepEqual(server.events, [
          { ...event, step: 'begin', bytes: 512 },
          { ...event, step: 'end', bytes: kernel.length },
        ])
      })

      test('answers from the port that it should', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('small'), server.port)
        const { port } = await nextData(peer)
        assert.equal(port === server.port, singlePort)
      })

      test('a request that comes again is one transfer', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        for (let count = 0; count < 3; count++) peer.send(readRequest('kernel'), server.port)
        const { port, block } = await nextData(peer)
        assert.equal(block, 1)
        peer.send(readRequest('kernel'), server.port)
        const again = await nextData(peer)
        assert.deepEqual([again.block, again.port], [1, port])
        peer.send(ack(1), port)
        assert.equal((await nextData(peer)).block, 2)
        peer.send(readRequest('kernel'), server.port)
        peer.send(ack(2), port)
        await fetch(peer, 3)
        await waitUntil('the transfer ends', () => isOver(server))
        await server.close()
        await peer.assertNothing()
      })

      test('another request from the same port ends the transfer before it, without an error', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('kernel', { tsize: 0 }), server.port)
        const offer = await peer.next()
        assert.equal(offer?.packet.kind, 'oack')
        peer.send(readRequest('kernel'), server.port)
        assert.ok((await fetch(peer, 1)).equals(kernel))
      })

      test('a client that only wants to know the size leaves no trace', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('kernel', { tsize: 0 }), server.port)
        const offer = await peer.next()
        assert.deepEqual(offer?.packet, {
          kind: 'oack',
          options: [{ name: 'tsize', value: String(kernel.length) }],
        })
        peer.send({ kind: 'error', code: 8, message: 'Early terminate' }, offer.port)
        // A second one is served, then the server ends, which it would tell whom it serves.
        await using second = await openPeer()
        second.send(readRequest('small'), server.port)
        assert.equal(String(await fetch(second, 1)), 'small')
        await waitUntil('the second transfer ends', () => isOver(server))
        await server.close()
        await peer.assertNothing()
        assert.ok(server.events.every((event) => event.kind === 'tftp' && event.file === 'small'))
      })

      test('a window comes at once, and again from where it broke', async () => {
        await using server = await serveTftp(tree, { singlePort })
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

      test('what was begun stays what it was when the file is replaced', async () => {
        const folder = temporaryDirectory()
        writeFileSync(join(folder, 'kernel'), kernel)
        await using server = await serveTftp(folder, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('kernel'), server.port)
        const { data, port } = await nextData(peer)
        writeFileSync(join(folder, 'new'), Buffer.alloc(kernel.length, 'other'))
        renameSync(join(folder, 'new'), join(folder, 'kernel'))
        peer.send(ack(1), port)
        assert.ok(Buffer.concat([data, await fetch(peer, 2)]).equals(kernel))
      })

      test('a file that is written to while it is sent is not taken for a whole one', async () => {
        const folder = temporaryDirectory()
        writeFileSync(join(folder, 'kernel'), kernel)
        utimesSync(join(folder, 'kernel'), 1000, 1000)
        await using server = await serveTftp(folder, { singlePort })
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
          assert.match(received.packet.message, /written to/)
          break
        }
        assert.equal(server.events.at(-1)?.kind === 'tftp' && server.events.at(-1)?.step, 'fail')
      })

      test('who is unknown gets error 5, and the transfer goes on', async () => {
        await using server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        await using stranger = await openPeer()
        peer.send(readRequest('kernel'), server.port)
        const { port } = await nextData(peer)
        stranger.send(ack(1), port)
        assert.equal((await nextError(stranger)).code, 5)
        // Never an error for an error, or two servers would keep each other busy.
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
      const noPacket = 'this is no packet of TFTP'
      const noName = 'this name cannot be one of a boot tree'
      const outside = '../../etc/passwd'
      const refusals: readonly (readonly [string, Packet | Buffer, number, string | undefined])[] =
        [
          ['a write', write, 2, 'refuse new: files are only read here'],
          ['mail', mail, 4, 'refuse root: there is no mode mail here'],
          ['an unknown operation', Buffer.from([0, 9, 0x61, 0]), 4, `refuse a: ${noPacket}`],
          [
            'a request without an end',
            Buffer.from('\0\x01kernel'),
            4,
            `refuse kernel: ${noPacket}`,
          ],
          [
            'a request that is too long',
            encode(readRequest('k'.repeat(600))),
            4,
            `refuse ${'k'.repeat(80)}: ${noPacket}`,
          ],
          ['a single byte', Buffer.from([0]), 4, `refuse : ${noPacket}`],
          ['an acknowledgment out of the blue', ack(7), 5, undefined],
          ['a name that leads out', readRequest(outside), 2, `fail ${outside}: ${noName}`],
          ['a name that nothing has', readRequest('none'), 1, 'missing none: undefined'],
          ['a folder', readRequest('/'), 2, `fail /: ${noName}`],
        ]
      for (const [what, packet, code, told] of refusals) {
        test(`${what} is refused with error ${code}, and told`, async () => {
          await using server = await serveTftp(tree, { singlePort })
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

      test('a flood from thousands of ports takes little, and others are served during it', async () => {
        const limits = { transfers: 64, transfersPerAddress: 48 }
        await using server = await serveTftp(tree, { singlePort, limits })
        const peers = await Promise.all(Array.from({ length: 250 }, () => openPeer()))
        const descriptors = openDescriptors()
        let most = 0
        let served = 0
        const requests = ['kernel', 'none', 'small'].flatMap((file) => [
          encode(readRequest(file)),
          encode(readRequest(file, { blksize: 65464, windowsize: 65535 })),
        ])
        // 5,250 requests: the same ports with other requests are as good as others.
        for (let round = 0; round < 21; round++) {
          const request = requests[round % requests.length] ?? assert.fail()
          for (const peer of peers) peer.send(request, server.port)
          for (let turn = 0; turn < 20; turn++) await nextTurn()
          most = Math.max(most, openDescriptors() - descriptors)
          if (round % 7 === 3 && (await isServed(server.port))) served++
        }
        assert.equal(served, 3)
        // A file, where it has one a socket, and curl's pipes; and files that are being opened.
        assert.ok(most <= 2 * limits.transfersPerAddress + 64 + 16, `${most} descriptors`)
        await server.close()
        for (const peer of peers) await peer[Symbol.asyncDispose]()
        assert.deepEqual(server.errors, [])
      })

      test('whoever is stuck gives way only to others when there are too many', async () => {
        const limits = { transfers: 3, transfersPerAddress: 3 }
        await using server = await serveTftp(tree, { singlePort, limits })
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

      test('closing tells those who are being served', async () => {
        const server = await serveTftp(tree, { singlePort })
        await using peer = await openPeer()
        peer.send(readRequest('kernel'), server.port)
        const { port } = await nextData(peer)
        peer.send(ack(1), port)
        await nextData(peer)
        await server.close()
        assert.match((await nextError(peer)).message, /the server ends/)
        assert.equal(server.events.at(-1)?.kind === 'tftp' && server.events.at(-1)?.step, 'fail')
      })
    },
  )
}

suite('a TFTP server', () => {
  test('is silent while descriptors are short, and serves who asks again', async () => {
    const program = join(import.meta.dirname, '../support/tftp-without-descriptors-program.ts')
    const command = ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, program, tree]
    const said = await runProgram('sh', command)
    assert.equal(said, 'silence\nsilence\ndata\n')
  })

  test('says why it cannot listen', async () => {
    await using server = await serveTftp(tree)
    await assert.rejects(serveTftp(tree, { port: server.port }), (error) => {
      assert.ok(error instanceof NetimageError)
      assert.equal(error.code, 'cannot-listen')
      assert.match(error.message, /TFTP \(UDP\) cannot listen on 127\.0\.0\.1/)
      return true
    })
  })

  test('ends with its signal', async () => {
    const controller = new AbortController()
    const server = await serveTftp(tree, { signal: controller.signal })
    controller.abort()
    await server.close()
    await using again = await serveTftp(tree, { port: server.port })
    assert.equal(again.port, server.port)
  })

  test('serves over IPv6 as well', async () => {
    await using server = await serveTftp(tree, { address: '::1' })
    const bytes = await filterThrough('curl', ['--silent', `tftp://[::1]:${server.port}/kernel`])
    assert.ok(bytes.equals(kernel))
  })

  test('serves IPv4 on a socket of IPv6', async () => {
    await using server = await serveTftp(tree, { address: '::' })
    assert.ok(await isServed(server.port))
    assert.equal(server.events[0]?.address, '127.0.0.1')
  })
})
