// Hostile clients, and clients that disconnect.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import type { Procedure, Program } from '../../../src/protocols/rpc/program.ts'
import { startTcpServer, type TcpLimits } from '../../../src/protocols/rpc/tcp-server.ts'
import { turnsOf } from '../../roots/support/turns.ts'
import { assertError } from '../../support/errors.ts'
import { waitUntil } from '../../support/waiting.ts'
import { burn } from '../support/burn.ts'
import { callRecord, connectRpc } from '../support/rpc-client.ts'

const program = 7
const address = '127.0.0.1'
const largeReply = 500_000
const expensiveMs = 4
/** These two addresses are of one machine. */
const ofTwoAddresses = ['127.0.0.2', '127.0.0.3']

/** Procedures that do nothing, that reply with much data, that reply later, are slow, are postponed, and repeat a word. */
function testProgram(): {
  program: Program
  counts: { large: number; waiting: number; expensive: number }
  gate: PromiseWithResolvers<void>
} {
  const counts = { large: 0, waiting: 0, expensive: 0 }
  const gate = Promise.withResolvers<void>()
  const procedures: Procedure[] = [
    () => undefined,
    (_call, results) => {
      counts.large++
      results.fixed(Buffer.alloc(largeReply))
      return undefined
    },
    (call, results) => {
      counts.waiting++
      results.uint32(call.arguments.uint32())
      return { until: gate.promise, otherwise: () => results.uint32(0xdead) }
    },
    () => {
      counts.expensive++
      burn(expensiveMs)
      return undefined
    },
    (call, results) => {
      if (!call.isAgain) return { again: gate.promise }
      results.uint32(call.arguments.uint32())
      return undefined
    },
    (call, results) => {
      const size = call.arguments.uint32()
      const word = call.arguments.uint32()
      for (let at = 0; at < size; at += 4) results.uint32(word)
      return undefined
    },
  ]
  return { program: { number: program, versions: new Map([[3, procedures]]) }, counts, gate }
}

async function start(limits?: TcpLimits, strangers: readonly string[] = []) {
  const { program, counts, gate } = testProgram()
  const defects: unknown[] = []
  const [entered, left]: [string[], string[]] = [[], []]
  const server = await startTcpServer({
    ...{ name: 'Test', address, port: 0, programs: [program] },
    onDefect: (defect) => defects.push(defect),
    onEnter: ({ address }) => entered.push(address),
    onLeave: ({ address }) => left.push(address),
    hasLongCalls: true,
    clientAt: (client) => ({
      name: ofTwoAddresses.includes(client) ? 'two' : client,
      isServed: !strangers.includes(client),
    }),
    ...(limits && { limits }),
  })
  return {
    ...{ port: server.port, entered, left, counts, gate, defects },
    [Symbol.asyncDispose]: () => server.close(),
  }
}

async function open(port: number, localAddress = address): Promise<Socket> {
  const socket = connect({ port, host: address, localAddress })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** Sends the beginning of a large call. */
async function stall(port: number, localAddress: string): Promise<Socket> {
  const socket = await open(port, localAddress)
  socket.resume()
  socket.write(Buffer.concat([Buffer.from('80100000', 'hex'), Buffer.alloc(20_000)]))
  return socket
}

async function isServed(port: number): Promise<boolean> {
  using client = await connectRpc(port)
  await client.call(program, 0, () => {})
  return true
}

const limits: TcpLimits = { connections: 40, connectionsPerAddress: 30, idleSeconds: 60 }

suite('an RPC server over TCP', () => {
  test('closes the connection at the length of a record of 2 GB, before it keeps anything', async () => {
    await using server = await start()
    for (const mark of ['7fffffff', 'ffffffff', '80101001']) {
      const socket = await open(server.port)
      socket.resume()
      socket.write(Buffer.from(mark, 'hex'))
      await once(socket, 'close')
    }
    assert.ok(await isServed(server.port))
  })

  test('closes the connection if the data are not RPC', async () => {
    await using server = await start()
    const socket = await open(server.port)
    socket.resume()
    socket.write('GET / HTTP/1.1\r\nHost: example.org\r\n\r\n')
    await once(socket, 'close')
    assert.deepEqual(server.defects, [])
    assert.ok(await isServed(server.port))
  })

  test('serves other clients during hundreds of idle connections', async () => {
    await using server = await start(limits)
    using busy = await connectRpc(server.port)
    await busy.call(program, 0, () => {})
    const halfOpen: Socket[] = []
    let closed = 0
    for (let count = 0; count < 300; count++) {
      const socket = await open(server.port)
      socket.on('close', () => closed++)
      socket.resume()
      socket.write(Buffer.from('80000100abcd', 'hex'))
      halfOpen.push(socket)
    }
    const most = limits.connectionsPerAddress
    await waitUntil('the server closes the connections over the limit', () => closed >= 300 - most)
    // The connection that was used is closed last.
    await busy.call(program, 0, () => {})
    assert.ok(await isServed(server.port))
    for (const socket of halfOpen) socket.destroy()
  })

  test('closes an idle connection', async () => {
    await using server = await start({ ...limits, idleSeconds: 0.2 })
    const socket = await open(server.port)
    socket.resume()
    socket.write(Buffer.from('800000', 'hex'))
    await once(socket, 'close')
    assert.ok(await isServed(server.port))
  })

  test('does not run calls of a client that does not read, until it reads', async () => {
    await using server = await start()
    const socket = await open(server.port)
    socket.pause()
    const calls = 500
    for (let count = 0; count < calls; count++) socket.write(callRecord({}, program, 1))
    let before = -1
    while (server.counts.large !== before) {
      before = server.counts.large
      // In this time the server would have answered many more calls.
      for (let calls = 0; calls < 30; calls++) await isServed(server.port)
    }
    // The kernel's buffers hold some replies, but never hundreds of megabytes.
    assert.ok(before < calls / 4, `${before} of ${calls} calls were answered`)
    assert.ok(await isServed(server.port))

    const replyBytes = 4 + 24 + largeReply
    let received = 0
    socket.on('data', (piece) => (received += piece.length))
    socket.resume()
    while (received < calls * replyBytes) await once(socket, 'data')
    assert.equal(received, calls * replyBytes)
    socket.destroy()
  })

  test('keeps the replies of clients that read late apart', async () => {
    await using server = await start()
    const clients = await Promise.all(Array.from({ length: 4 }, () => open(server.port)))
    // Of all sizes, so that some are written to memory that was used before.
    const sizes = Array.from({ length: 120 }, (_, index) => 4 + 4 * ((index * 7919) % 40_000))
    for (const [number, client] of clients.entries()) {
      client.pause()
      for (const size of sizes) {
        client.write(
          callRecord({}, program, 5, (writer) => {
            writer.uint32(size)
            writer.uint32((number << 24) + size)
          }),
        )
      }
    }
    for (let calls = 0; calls < 30; calls++) await isServed(server.port)
    for (const [number, client] of clients.entries()) {
      const pieces: Buffer[] = []
      let left = sizes.reduce((sum, size) => sum + 28 + size, 0)
      client.on('data', (piece) => {
        pieces.push(piece)
        left -= piece.length
      })
      client.resume()
      await waitUntil('all replies have come', () => left === 0)
      const received = Buffer.concat(pieces)
      let at = 0
      for (const size of sizes) {
        const word = Buffer.alloc(4)
        word.writeUInt32BE((number << 24) + size)
        const expected = Buffer.alloc(size, word)
        assert.ok(received.subarray(at + 28, at + 28 + size).equals(expected), `${number} ${size}`)
        at += 28 + size
      }
      client.destroy()
    }
  })

  test('keeps no large calls of a client that may not send them, and answers its small calls', async () => {
    await using server = await start(limits, ['127.0.0.9'])
    using stranger = await connectRpc(server.port, '127.0.0.9')
    await stranger.call(program, 0, (writer) => writer.fixed(Buffer.alloc(8000)))
    const fragments = [['80002001'], ['00001fff', '00'.repeat(0x1fff), '80000002']]
    for (const parts of fragments) {
      const socket = connect({ port: server.port, host: address, localAddress: '127.0.0.9' })
      socket.on('error', () => {}).resume()
      for (const part of parts) socket.write(Buffer.from(part, 'hex'))
      await once(socket, 'close')
    }
    await stranger.call(program, 0, () => {})
    using other = await connectRpc(server.port)
    await other.call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
  })

  test('receives a limited number of large calls at a time, and the others wait', async () => {
    const many = { connections: 100, connectionsPerAddress: 100, idleSeconds: 60 }
    await using server = await start(many)
    const stalled: Socket[] = []
    for (let count = 0; count < 64; count++) {
      // Four machines.
      stalled.push(await stall(server.port, `127.0.0.${4 + (count % 4)}`))
    }
    assert.ok(await isServed(server.port))
    using client = await connectRpc(server.port)
    let isDone = false
    const large = client
      .call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
      .then(() => (isDone = true))
    for (let count = 0; count < 100; count++) assert.ok(await isServed(server.port))
    assert.equal(isDone, false)
    stalled.pop()?.destroy()
    await large
    // The client can take its place again.
    await client.call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
    for (const socket of stalled) socket.destroy()
  })

  test('receives large calls of others while one machine with two addresses stalls many', async () => {
    await using server = await start()
    const stalled: Socket[] = []
    for (const localAddress of ofTwoAddresses) {
      for (let count = 0; count < 32; count++) {
        stalled.push(await stall(server.port, localAddress))
      }
    }
    assert.ok(await isServed(server.port))
    using client = await connectRpc(server.port)
    await client.call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
    // The server ends such calls after a minute.
    assert.ok(stalled.every(({ destroyed }) => !destroyed))
    // Its own further calls wait.
    using own = await connectRpc(server.port, ofTwoAddresses[0])
    let isDone = false
    const large = own
      .call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
      .then(() => (isDone = true))
    for (let count = 0; count < 100; count++) assert.ok(await isServed(server.port))
    assert.equal(isDone, false)
    for (const socket of stalled) socket.destroy()
    await large
  })

  test('answers other clients in between if many expensive calls arrive together', async () => {
    await using server = await start()
    using other = await connectRpc(server.port)
    await other.call(program, 0, () => {})
    const calls = 200
    const socket = await open(server.port)
    const replyBytes = 28
    let received = 0
    socket.on('data', (piece) => (received += piece.length))
    socket.write(Buffer.concat(Array.from({ length: calls }, () => callRecord({}, program, 3))))
    while (server.counts.expensive === 0) await new Promise((resolve) => setImmediate(resolve))
    await other.call(program, 0, () => {})
    assert.ok(
      server.counts.expensive < 20,
      `${server.counts.expensive} calls came before the other one`,
    )
    while (received < calls * replyBytes) await once(socket, 'data')
    assert.equal(server.counts.expensive, calls)
    assert.equal(received, calls * replyBytes)
    socket.destroy()
  })

  test('works for one machine only for a while in each turn, however many connections it has', async () => {
    await using server = await start()
    const sockets = await Promise.all(
      Array.from({ length: 32 }, (_, index) => open(server.port, ofTwoAddresses[index % 2])),
    )
    const calls = 3
    const received = sockets.map((socket) => {
      const replies = Promise.withResolvers<void>()
      let bytes = 0
      socket.on('data', (piece) => {
        bytes += piece.length
        if (bytes === calls * 28) replies.resolve()
      })
      return replies.promise
    })
    const batch = Buffer.concat(Array.from({ length: calls }, () => callRecord({}, program, 3)))
    // Node accepts one connection in a turn.
    await waitUntil('all connections are accepted', () => server.entered.length === 32)
    for (const socket of sockets) socket.write(batch)
    let [before, most] = [0, 0]
    const turns = await turnsOf(
      Promise.all(received).then(() => {}),
      () => {
        most = Math.max(most, server.counts.expensive - before)
        before = server.counts.expensive
      },
    )
    assert.equal(server.counts.expensive, 32 * calls)
    // A call takes longer than the share of a machine. Between two looks, two turns can begin.
    assert.ok(most <= 2, `${most} calls in a turn, ${turns} turns`)
    for (const socket of sockets) socket.destroy()
  })

  test('answers other calls while replies wait', async () => {
    await using server = await start()
    using client = await connectRpc(server.port)
    const held = Array.from({ length: 2000 }, (_, number) =>
      client.call(program, 2, (writer) => writer.uint32(number)),
    )
    await waitUntil('many replies wait', () => server.counts.waiting > 100)
    assert.ok(await isServed(server.port))
    server.gate.resolve()
    const replies = await Promise.all(held)
    assert.deepEqual(
      replies.map((reply) => reply.uint32()),
      replies.map((_, number) => number),
    )
  })

  test('runs a postponed call again, also while the next call waits for a place', async () => {
    await using server = await start()
    const [address, otherAddress] = ofTwoAddresses
    assert.ok(address !== undefined && otherAddress !== undefined)
    const stalled: Socket[] = []
    for (let count = 0; count < 16; count++) stalled.push(await stall(server.port, otherAddress))
    using client = await connectRpc(server.port, address)
    await client.call(program, 0, () => {})
    const postponed = client.call(program, 4, (writer) => writer.uint32(77))
    const large = client.call(program, 0, (writer) => writer.fixed(Buffer.alloc(2 ** 20)))
    for (let count = 0; count < 20; count++) assert.ok(await isServed(server.port))
    server.gate.resolve()
    assert.equal((await postponed).uint32(), 77)
    for (const socket of stalled) socket.destroy()
    await large
  })

  test('survives a client that disconnects while its replies wait', async () => {
    await using server = await start()
    const socket = await open(server.port)
    socket.write(callRecord({}, program, 2, (writer) => writer.uint32(1)))
    await waitUntil('the reply waits', () => server.counts.waiting === 1)
    socket.destroy()
    await waitUntil('the server sees that', () => server.left.length === 1)
    server.gate.resolve()
    assert.ok(await isServed(server.port))
    assert.deepEqual(server.defects, [])
  })

  test('tells if its port is in use', async () => {
    await using server = await start()
    const other = startTcpServer({
      ...{ name: 'NFS', address, port: server.port, programs: [], hasLongCalls: false },
      onDefect: () => {},
    })
    await assert.rejects(other, (error) => {
      const details = { field: 'NFS (TCP)', actual: `${address}:${server.port}` }
      assertError(error, 'cannot-listen', details)
      assert.match(error.hint ?? '', /Another program has the port/)
      return true
    })
  })
})
