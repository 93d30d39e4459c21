// How the server starts and ends.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { NetimageError } from '../../../src/errors.ts'
import { startNfsServer } from '../../../src/protocols/nfs/server.ts'
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

setFlagsFromString('--expose-gc')
const collectGarbage: unknown = runInNewContext('gc')

/** Bytes of buffers that something still refers to. */
function memoryInUse(): number {
  assert.ok(typeof collectGarbage === 'function')
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

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
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({ machineOf: () => (isBusy ? 'busy' : machine) })
    using client = await connectNfs(server.port)
    const call = callRecord({}, 100005, 1, (writer) => writer.string(exportPath)).subarray(4)
    assert.deepEqual(await askByUdp(server.port, call), [])
    const mounting = client.mount(exportPath)
    await sleep(300)
    assert.deepEqual(server.events, [])
    isBusy = false
    const { status, handle } = await mounting
    assert.equal(status, 0)
    assert.ok(await client.attributes(handle))
    assert.equal((await askByUdp(server.port, call)).length, 1)
    assert.ok(server.events.every(({ step }) => step === 'mount'))
    assert.deepEqual(server.errors, [])
  })

  test('notes no mount of a client that did not wait for it', async () => {
    let isBusy = true
    const machine = machineWith(exportOf(createMemoryFileSystem()))
    await using server = await startTestServer({ machineOf: () => (isBusy ? 'busy' : machine) })
    const client = await connectNfs(server.port)
    const mounting = client.mount(exportPath)
    await sleep(100)
    client[Symbol.dispose]()
    await assert.rejects(mounting)
    isBusy = false
    await sleep(600)
    assert.deepEqual(server.events, [])
  })

  test('keeps of many mounts that wait neither what came with them, nor a look for each', async () => {
    let looks = 0
    await using server = await startTestServer({ machineOf: () => (looks++, 'busy') })
    const client = await connectNfs(server.port)
    const before = memoryInUse()
    const calls = 100
    const call = callRecord({}, 100005, 1, (writer) => {
      writer.string(exportPath)
      writer.fixed(Buffer.alloc(2 ** 20))
    })
    for (let sent = 0; sent < calls; sent++) {
      if (!client.socket.write(call)) await once(client.socket, 'drain')
    }
    // One look for each call, and then one at a time for all of them.
    while (looks < calls + 2) await sleep(20)
    assert.ok(looks < 2 * calls, `${looks}`)
    const held = () => memoryInUse() - before
    // Memory that nothing refers to is not given back at once, but sooner than the mounts are answered.
    const end = performance.now() + 5000
    while (held() >= 20 << 20 && performance.now() < end) await sleep(100)
    assert.deepEqual(server.events, [])
    assert.ok(held() < 20 << 20, `${held()} bytes`)
    client[Symbol.dispose]()
  })

  test('refuses a mount whose root cannot be opened for long', async () => {
    await using server = await startTestServer({ machineOf: () => 'busy' })
    using client = await connectNfs(server.port)
    assert.equal((await client.mount(exportPath)).status, 10006)
    const [event, ...more] = server.events
    assert.deepEqual(more, [])
    assert.ok(event?.kind === 'nfs' && event.step === 'refuse')
  })

  test('ends with its signal, and takes its connections along', async () => {
    const stop = new AbortController()
    const server = await startTestServer({ signal: stop.signal })
    using client = await connectNfs(server.port)
    const { handle } = await client.mount(exportPath)
    stop.abort()
    await sleep(20)
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

/** What comes back within a moment. */
async function askByUdp(port: number, datagram: Buffer): Promise<Buffer[]> {
  const socket = createSocket('udp4')
  const answers: Buffer[] = []
  socket.on('message', (answer) => answers.push(answer))
  socket.send(datagram, port, '127.0.0.1')
  await sleep(200)
  socket.close()
  return answers
}
