// The start and the end of the NFS server.

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
  test('has MOUNT on the port of NFS or on another port, and a port mapper if it is wanted', async () => {
    const shared = await startNfsServer({ ...options, ports: { nfs: 0 } })
    assert.equal(shared.ports.portMapper, undefined)
    await shared.close()
    const apart = await startNfsServer({ ...options, ports: { nfs: 0, portMapper: 0 } })
    assert.equal(new Set(Object.values(apart.ports)).size, 2)
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
      [100005, apart.ports.nfs],
    ] as const) {
      assert.equal(await getPort(program), `127.0.0.1.${port >> 8}.${port & 255}`)
    }
    assert.equal(await getPort(100021), '')
    await apart.close()
  })

  test('reports a client that needs an unsupported version, but not a client that only searches', async () => {
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
      {
        ...refusal,
        reason: 'the machine asks for NFS version 4, but this server has only version 3',
      },
      {
        ...refusal,
        reason: 'the machine asks for MOUNT version 1, but this server has only version 3',
      },
    ])
  })

  test('sends only short replies by UDP, because the sender’s address may be forged', async () => {
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      machineOf: ({ address }) => ({ ...machine, name: address }),
    })
    const dump = async (length: number) => {
      const answers = await askByUdp(server.port, callRecord({}, 100005, 2).subarray(4))
      assert.equal(answers.length, length)
    }
    await dump(1)
    for (let host = 2; host < 60; host++) {
      using client = await connectNfs(server.port, `127.0.0.${host}`)
      await client.mount(exportPath)
    }
    // The list of all mounts is too long by now.
    await dump(0)
    assert.equal((await askByUdp(server.port, callRecord({}, 100005, 0).subarray(4))).length, 1)
  })

  test('lists the mount of a machine also if another one has mounted very often', async () => {
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      machineOf: ({ address }) => ({ ...machine, name: address === '127.0.0.9' ? 'nine' : 'pi' }),
    })
    const mounted = async (host: number) => {
      const client = await connectNfs(server.port, `127.0.0.${host}`)
      await client.mount(exportPath)
      return client
    }
    for (let host = 100; host < 120; host++) (await mounted(host))[Symbol.dispose]()
    using client = await mounted(9)
    using rpc = await connectRpc(server.port)
    const list = await rpc.call(100005, 2, () => {})
    const addresses: string[] = []
    while (list.boolean()) {
      addresses.push(list.opaque().toString())
      list.opaque()
    }
    assert.ok(client)
    assert.ok(addresses.includes('127.0.0.9'))
    assert.equal(addresses.length, 17)
  })

  test('lets a mount by TCP wait for a root that cannot be opened yet, but not by UDP', async () => {
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

  test('does not let a mount wait for other connections, even from the same address', async (t) => {
    // The clock stands still, so no mount waits for too long.
    t.mock.method(performance, 'now', () => 0)
    const looks = new Map<object, number>()
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({
      // The first connection is from before the machine's reboot: its mount stays busy.
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

  test('does not record a mount if the client closed the connection before the reply', async () => {
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
    // This mount began later, so it is answered later.
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

  test('keeps neither the calls of many waiting mounts, nor a timer for each of them', async () => {
    const program = join(import.meta.dirname, '../support/waiting-mounts-program.ts')
    const { calls, looks, refused } = parseObject(await runInLittleMemory(program))
    // The server looks once when a call arrives, and once when it refuses the call. If each call
    // had a timer of its own, there would be several more looks for each call.
    const between = Number(looks) - Number(calls) - Number(refused)
    assert.ok(between < Number(calls), `${between} looks`)
  })

  test('refuses a mount only after the time that it takes to notice a lost connection', async (t) => {
    let [looks, passed] = [0, 0]
    const now = performance.now.bind(performance)
    t.mock.method(performance, 'now', () => now() + passed)
    await using server = await startTestServer({ machineOf: () => (looks++, 'busy') })
    using client = await connectNfs(server.port)
    const mounting = client.mount(exportPath)
    const looksAgain = (before: number) =>
      waitUntil('the server looks again', () => looks >= before + 3)
    await looksAgain(looks)
    // By then the server has noticed a client without power: src/protocols/rpc/tcp-server.ts.
    passed = 30_000
    await looksAgain(looks)
    assert.equal(server.events.length, 0)
    passed = 60_000
    assert.equal((await mounting).status, 10006)
    const [event, ...more] = server.events
    assert.deepEqual(more, [])
    assert.ok(event?.kind === 'nfs' && event.step === 'refuse')
  })

  test('stops when its signal is aborted, and closes its connections', async () => {
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

  test('leaves no socket open if one of its ports is in use', async () => {
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

/**
 * The replies that come before the replies to two later calls, which are sent one after the other.
 */
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
