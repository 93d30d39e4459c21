// File handles: they stay valid after a restart, no client can forge one, and each machine's
// handles open only its own files.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { createMemoryFileSystem } from '../support/memory-file-system.ts'
import { connectNfs } from '../support/nfs-client.ts'
import {
  exportOf,
  exportPath,
  handleKey,
  machineWith,
  serveToClient,
  startTestServer,
} from '../support/test-server.ts'

const status = { ok: 0, access: 13, stale: 70, badHandle: 10001, jukebox: 10008 }

const newFile = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

suite('file handles', () => {
  test('are the same after a restart, and still open the same nodes', async () => {
    const fileSystem = createMemoryFileSystem()
    const file = fileSystem.create(fileSystem.root, Buffer.from('file'), newFile)
    let handle: Buffer
    {
      await using served = await serveToClient({ fileSystem })
      handle = await served.client.find(served.root, 'file')
      assert.ok(handle.length <= 64)
    }
    await using server = await startTestServer({ fileSystem })
    using client = await connectNfs(server.port)
    assert.equal((await client.attributes(handle)).fileId, file)
    assert.deepEqual(await client.find((await client.mount(exportPath)).handle, 'file'), handle)
  })

  test('are bad if a bit is changed, if they are cut off, or if they are invented', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const changed = Array.from({ length: root.length * 8 }, (_, bit) => {
      const handle = Buffer.from(root)
      handle[bit >> 3] = (handle[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return handle
    })
    const others = [
      ...Array.from(root, (_, length) => root.subarray(0, length)),
      Buffer.concat([root, Buffer.alloc(4)]),
      randomBytes(root.length),
    ]
    for (const handle of [...changed, ...others]) {
      const { status: found } = await client.ask('GETATTR', [handle])
      assert.equal(found, status.badHandle, handle.toString('hex'))
    }
    assert.equal((await client.ask('GETATTR', [root])).status, status.ok)
  })

  test('cannot be guessed: random bytes open nothing', async () => {
    await using served = await serveToClient()
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (handle) => {
        assert.equal((await served.client.ask('GETATTR', [handle])).status, status.badHandle)
      }),
    )
  })

  test('longer than 64 bytes are malformed arguments', async () => {
    await using served = await serveToClient()
    await assert.rejects(served.client.ask('GETATTR', [Buffer.alloc(65)]), /00000004$/)
  })

  test('of another key are bad', async () => {
    await using other = await serveToClient({ handleKey: Buffer.alloc(32, 'other') })
    await using served = await serveToClient()
    assert.equal((await served.client.ask('GETATTR', [other.root])).status, status.badHandle)
  })

  test('of another machine or a layer that was reset are stale', async () => {
    await using served = await serveToClient()
    const machine = machineWith(exportOf(createMemoryFileSystem(), { layer: 'other' }))
    await using other = await serveToClient({ machineOf: () => machine })
    assert.equal((await served.client.ask('GETATTR', [other.root])).status, status.stale)
  })

  test('of a machine that has lost its root are stale', async () => {
    const fileSystem = createMemoryFileSystem()
    let machine = machineWith(exportOf(fileSystem))
    await using served = await serveToClient({ fileSystem, machineOf: () => machine })
    machine = machineWith()
    assert.equal((await served.client.ask('GETATTR', [served.root])).status, status.stale)
  })

  test('of a removed node are stale', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    server.fileSystem.create(server.fileSystem.root, Buffer.from('file'), newFile)
    const file = await client.find(root, 'file')
    await client.done('REMOVE', [root, 'file'])
    assert.equal((await client.ask('GETATTR', [file])).status, status.stale)
    assert.equal((await client.ask('READ', [file, 0, 0, 10])).status, status.stale)
  })

  test('open nothing for an unknown client, and a busy machine must wait', async () => {
    const fileSystem = createMemoryFileSystem()
    const machine = machineWith(exportOf(fileSystem))
    let whose: typeof machine | 'busy' | undefined = machine
    await using served = await serveToClient({ fileSystem, machineOf: () => whose })
    const { client, root } = served
    whose = undefined
    assert.equal((await client.ask('GETATTR', [root])).status, status.access)
    assert.equal((await client.mount(exportPath)).status, status.access)
    whose = 'busy'
    assert.equal((await client.ask('GETATTR', [root])).status, status.jukebox)
    whose = machine
    assert.equal((await client.ask('GETATTR', [root])).status, status.ok)
  })

  test('of two exports open different trees, and nothing can be moved between these', async () => {
    const [one, two] = [createMemoryFileSystem(), createMemoryFileSystem()]
    two.create(two.root, Buffer.from('file'), newFile)
    const machine = machineWith(
      exportOf(one, { path: '/one' }),
      exportOf(two, { path: '/two', layer: 'boot' }),
    )
    await using server = await startTestServer({ machineOf: () => machine })
    using client = await connectNfs(server.port)
    const { handle: rootOne } = await client.mount('/one')
    const { handle: rootTwo } = await client.mount('/two')
    const file = await client.find(rootTwo, 'file')
    const [attributesOne, attributesTwo] = [
      await client.attributes(rootOne),
      await client.attributes(rootTwo),
    ]
    assert.notEqual(attributesOne.fsid, attributesTwo.fsid)
    assert.equal((await client.ask('LINK', [file, rootOne, 'file'])).status, 18)
    assert.equal((await client.ask('RENAME', [rootTwo, 'file', rootOne, 'file'])).status, 18)
    const forged = Buffer.concat([rootOne.subarray(0, -4), Buffer.alloc(4)])
    const { status: found } = await client.ask('RENAME', [rootTwo, 'file', forged, 'file'])
    assert.equal(found, status.badHandle)
  })
})

suite('MOUNT', () => {
  test('grants an export and the directories below it, and nothing else', async () => {
    const fileSystem = createMemoryFileSystem()
    const below = fileSystem.create(fileSystem.root, Buffer.from('below'), {
      ...newFile,
      kind: 'directory',
      mode: 0o755,
    })
    fileSystem.create(below, Buffer.from('file'), newFile)
    await using served = await serveToClient({ fileSystem })
    const { client, root, server } = served
    const found = async (path: string) => await client.mount(path)
    assert.deepEqual((await found(`${exportPath}/`)).handle, root)
    assert.deepEqual((await found(`//srv/pi//`)).handle, root)
    assert.deepEqual((await found(`${exportPath}/below`)).handle, await client.find(root, 'below'))
    const refused: [string, number][] = [
      ['/', 13],
      ['/srv', 13],
      ['/srv/pipe', 13],
      ['/srv/pi/nothing', 2],
      ['/srv/pi/below/..', 2],
      ['/srv/pi/../pi', 2],
      ['/srv/pi/below/file', 20],
      ['srv/pi', 2],
      ['', 2],
      [`/srv/pi/${'x'.repeat(256)}`, 63],
    ]
    for (const [path, status] of refused) assert.equal((await found(path)).status, status, path)
    assert.deepEqual(
      server.events.map((event) => event.kind === 'nfs' && event.step),
      [...Array.from({ length: 4 }, () => 'mount'), ...refused.map(() => 'refuse')],
    )
    assert.deepEqual(server.events[0], {
      ...{ address: '127.0.0.1', mac: '02:00:00:00:00:01' },
      ...{ kind: 'nfs', step: 'mount', path: exportPath },
    })
  })

  test('needs a key of 32 bytes', async () => {
    await assert.rejects(startTestServer({ handleKey: handleKey.subarray(1) }), RangeError)
  })
})
