// How the server starts and ends.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { NetimageError } from '../../../src/errors.ts'
import { startNfsServer } from '../../../src/protocols/nfs/server.ts'
import { parseObject } from '../../support/netimage.ts'
import { runInLittleMemory } from '../../support/limited-memory.ts'
import { waitFor, waitUntil } from '../../support/waiting.ts'
import { createMemoryFileSystem } from '../support/memory-file-system.ts'
import { connectNfs } from '../support/nfs-client.ts'
import { callRecord, connectRpc } from '../support/rpc-client.ts'
import {
  exportOf,
  exportPath,
  handleKey,
  machineWith,
  startTestServer,
} from '../support/test-server.ts'

const options = {
  address: '127.0.0.1',
  machineOf: () => undefined,
  handleKey,
  report: () => {},
  onError: (error: Error) => assert.fail(error),
}

suite('the NFS server', () => {
  test('has MOUNT on the port of NFS, or on one of its own, and a port mapper where it is told', async () => {
    const shared = await startNfsServer({ ...options, ports: { nfs: 0 } })
    assert.deepEqual(shared.ports, { nfs: shared.ports.nfs, mount: shared.ports.nfs })
    await shared.close()
    const apart = await startNfsServer({ ...options, ports: { nfs: 0, mount: 0, portMapper: 0 } })
    assert.equal(new Set(Object.values(apart.ports)).size, 3)
    using rpc = await connectRpc(apart.ports.portMapper ?? 0)
    const getPort = async (program: number) => {
      const reader = await rpc.call(100000, 3, (writer) => {
        for (const word of [program, 3, 0]) writer.uint32(word)
        for (const text of ['', '', '']) writer.string(text)
      })
      return reader.opaque().toString()
    }
    for (const [program, port] of [
      [100003, apart.ports.nfs],
      [100005, apart.ports.mount],
    ] as const) {
      assert.equal(await getPort(program), `127.0.0.1.${port >> 8}.${port & 255}`)
    }
    assert.equal(await getPort(100021), '')
    await apart.close()
  })

  test('tells that a client asks for a version that it does not have, but not of those that only look', async () => {
    await using server = await startTestServer()
    using client = await connectRpc(server.port)
    const [nfs, mount] = [100003, 100005]
    for (const [program, version] of [
      [nfs, 4],
      [mount, 1],
      [nfs, 0],
      [nfs, 0xffff_ffff],
    ] as const) {
      const call = callRecord({}, program, 0)
      const versionAt = 4 + 4 * 4
      call.writeUInt32BE(version, versionAt)
      client.socket.write(call)
      const reply = await client.nextReply()
      const programMismatch = 2
      assert.equal(reply.readUInt32BE(20), programMismatch)
    }
    const refusal = { kind: 'nfs', step: 'refuse', address: '127.0.0.1', path: '' }
    assert.deepEqual(server.events, [
      { ...refusal, reason: 'it asks for NFS version 4, and this server has version 3' },
      { ...refusal, reason: 'it asks for MOUNT version 1, and this server has version 3' },
    ])
  })

  test('answers a datagram with little, for it may have another’s address', async () => {
    await using server = await startTestServer()
    const dump = async (length: number) => {
      const answers = await askByUdp(server.port, callRecord({}, 100005, 2).subarray(4))
      assert.equal(answers.length, length)
    }
    await dump(1)
    for (let host = 2; host < 60; host++) {
      using client = await connectNfs(server.port, `127.0.0.${host}`)
      await client.mount(exportPath)
    }
    // All mounts are too much by now.
    await dump(0)
    assert.equal((await askByUdp(server.port, callRecord({}, 100005, 0).subarray(4))).length, 1)
  })

  test('lets a mount wait for a root that cannot be opened yet, and no datagram', async () => {
    let isBusy = true
    let looks = 0
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      machineOf: () => (looks++, isBusy ? 'busy' : machine),
    })
    using client = await connectNfs(server.port)
    const call = callRecord({}, 100005, 1, (writer) => writer.string(exportPath)).subarray(4)
    assert.deepEqual(await askByUdp(server.port, call), [])
    const before = looks
    const mounting = client.mount(exportPath)
    await waitUntil('the server looks again', () => looks >= before + 3)
    assert.deepEqual(server.events, [])
    isBusy = false
    const { status, handle } = await mounting
    assert.equal(status, 0)
    assert.ok(await client.attributes(handle))
    assert.equal((await askByUdp(server.port, call)).length, 1)
    assert.ok(server.events.every(({ step }) => step === 'mount'))
    assert.deepEqual(server.errors, [])
  })

  test('lets a mount wait for nobody else’s connection, also from the same address', async (t) => {
    // No mount waits for too long.
    t.mock.method(performance, 'now', () => 0)
    const looks = new Map<object, number>()
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      // What a machine was connected by before its boot is worth nothing any more.
      machineOf(caller) {
        looks.set(caller, (looks.get(caller) ?? 0) + 1)
        const [before] = looks.keys()
        return before === caller || looks.get(caller) === 1 ? 'busy' : machine
      },
    })
    using before = await connectNfs(server.port)
    const mounting = before.mount(exportPath)
    await waitUntil('the mount waits', () => looks.size === 1)
    using client = await connectNfs(server.port)
    assert.equal((await waitFor('the other mount', client.mount(exportPath))).status, 0)
    before[Symbol.dispose]()
    await assert.rejects(mounting)
  })

  test('notes no mount of a client that did not wait for it', async () => {
    let isBusy = true
    const looked = new Set<string>()
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      machineOf: ({ address }) => (looked.add(address), isBusy ? 'busy' : machine),
    })
    const client = await connectNfs(server.port, '127.0.0.2')
    const mounting = client.mount(exportPath)
    await waitUntil('the mount waits', () => looked.has('127.0.0.2'))
    client[Symbol.dispose]()
    await assert.rejects(mounting)
    // Its mount began later, and so it is answered later.
    using other = await connectNfs(server.port, '127.0.0.3')
    const mount = other.mount(exportPath)
    await waitUntil('the other mount waits', () => looked.has('127.0.0.3'))
    isBusy = false
    assert.equal((await mount).status, 0)
    assert.deepEqual(
      server.events.map(({ address }) => address),
      ['127.0.0.3'],
    )
  })

  test('keeps of many mounts that wait neither what came with them, nor a look for each', async () => {
    const program = join(import.meta.dirname, '../support/waiting-mounts-program.ts')
    const { calls, looks, refused } = parseObject(await runInLittleMemory(program))
    // Each call costs a look when it comes, and one when it is refused. The looks between these would
    // be several a call if each call had its own.
    const between = Number(looks) - Number(calls) - Number(refused)
    assert.ok(between < Number(calls), `${between} looks`)
  })

  test('refuses a mount only if its root cannot be opened for longer than lost connections last', async (t) => {
    let [looks, passed] = [0, 0]
    const now = performance.now.bind(performance)
    t.mock.method(performance, 'now', () => now() + passed)
    await using server = await startTestServer({ machineOf: () => (looks++, 'busy') })
    using client = await connectNfs(server.port)
    const mounting = client.mount(exportPath)
    const looksAgain = (before: number) =>
      waitUntil('the server looks again', () => looks >= before + 3)
    await looksAgain(looks)
    // A client that lost its power is noticed by then: src/protocols/rpc/tcp-server.ts.
    passed = 30_000
    await looksAgain(looks)
    assert.equal(server.events.length, 0)
    passed = 60_000
    assert.equal((await mounting).status, 10006)
    const [event, ...more] = server.events
    assert.deepEqual(more, [])
    assert.ok(event?.kind === 'nfs' && event.step === 'refuse')
  })

  test('ends with its signal, and takes its connections along', async () => {
    const stop = new AbortController()
    const server = await startTestServer({ signal: stop.signal })
    using client = await connectNfs(server.port)
    const { handle } = await client.mount(exportPath)
    const closed = once(client.socket, 'close')
    stop.abort()
    await waitFor('the connection closes', closed)
    await assert.rejects(client.attributes(handle))
    await assert.rejects(connectNfs(server.port))
    await server.close()
  })

  test('leaves nothing behind where one of its ports is taken', async () => {
    await using taken = await startTestServer()
    const free = await startTestServer()
    const port = free.port
    await free.close()
    const failing = startNfsServer({ ...options, ports: { nfs: port, portMapper: taken.port } })
    await assert.rejects(failing, (error) => {
      assert.ok(error instanceof NetimageError)
      assert.match(
        error.message,
        /^The port mapper \(TCP\) cannot listen on 127\.0\.0\.1, port \d+/,
      )
      return true
    })
    await assert.rejects(connectNfs(port))
  })
})

/** What comes back before the answers to two calls that follow it, one after the other. */
async function askByUdp(port: number, datagram: Buffer): Promise<Buffer[]> {
  const socket = createSocket('udp4')
  const answers: Buffer[] = []
  socket.on('message', (answer) => answers.push(answer))
  const has = (xid: number) => answers.findIndex((answer) => answer.readUInt32BE() === xid)
  socket.send(datagram, port, '127.0.0.1')
  for (const xid of [0xfe000001, 0xfe000002]) {
    socket.send(callRecord({ xid }, 100005, 0).subarray(4), port, '127.0.0.1')
    await waitUntil('the server answers the next call', () => has(xid) >= 0)
    answers.splice(has(xid), 1)
  }
  socket.close()
  return answers
}
