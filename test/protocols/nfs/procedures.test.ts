// The answers of each procedure, if RFC 1813 allows only one answer and the kernel's client does
// not show it.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { FileSystemError } from '../../../src/protocols/nfs/file-system.ts'
import {
  connectNfs,
  procedureNames,
  procedureNumber,
  raw,
  readAfter,
  readChange,
  readListing,
  readMade,
  wanted,
  wide,
  writePart,
  type NfsClient,
  type Part,
  type ProcedureName,
} from '../support/nfs-client.ts'
import { waitUntil } from '../../support/waiting.ts'
import { connectRpc } from '../support/rpc-client.ts'
import { createMemoryFileSystem } from '../support/memory-file-system.ts'
import {
  exportOf,
  exportPath,
  machineWith,
  serveToClient,
  startTestServer,
} from '../support/test-server.ts'

const status = {
  ...{ ok: 0, perm: 1, noent: 2, io: 5, access: 13, exist: 17, notdir: 20, isdir: 21, inval: 22 },
  ...{ fbig: 27, nospc: 28, nametoolong: 63, notempty: 66, notSync: 10002, badCookie: 10003 },
  ...{ tooSmall: 10005, serverFault: 10006, badType: 10007, jukebox: 10008 },
}
const unchecked = (mode = 0o644) => [0, wanted({ mode })]
const guarded = (mode = 0o644) => [1, wanted({ mode })]
const exclusive = (verifier: string) => [2, raw(Buffer.from(verifier))]
const stable = { unstable: 0, dataSync: 1, fileSync: 2 }

async function make(client: NfsClient, name: ProcedureName, ...parts: Part[]): Promise<Buffer> {
  return readMade(await client.done(name, parts)).handle
}

function writeTo(file: Buffer, offset: number, text: string, how = stable.unstable): Part {
  return [file, wide(offset), text.length, how, text]
}

async function statusOf(client: NfsClient, name: ProcedureName, ...parts: Part[]): Promise<number> {
  return (await client.ask(name, parts)).status
}

suite('names', () => {
  const hostile: [Buffer, number][] = [
    [Buffer.from(''), status.inval],
    [Buffer.from('a/b'), status.inval],
    [Buffer.from('/'), status.inval],
    [Buffer.from('a\0b'), status.inval],
    [Buffer.alloc(256, 'x'), status.nametoolong],
    [Buffer.alloc(5000, 'x'), status.nametoolong],
  ]

  test('that are invalid are refused by each procedure with a name', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', unchecked())
    const withName: [ProcedureName, (name: Buffer) => Part][] = [
      ['LOOKUP', (name) => [root, name]],
      ['CREATE', (name) => [root, name, unchecked()]],
      ['MKDIR', (name) => [root, name, wanted()]],
      ['SYMLINK', (name) => [root, name, wanted(), 'target']],
      ['MKNOD', (name) => [root, name, 7, wanted()]],
      ['REMOVE', (name) => [root, name]],
      ['RMDIR', (name) => [root, name]],
      ['RENAME', (name) => [root, name, root, 'other']],
      ['RENAME', (name) => [root, 'file', root, name]],
      ['LINK', (name) => [file, root, name]],
    ]
    for (const [procedure, parts] of withName) {
      for (const [name, expected] of hostile) {
        const found = await statusOf(client, procedure, parts(name))
        assert.equal(found, expected, `${procedure} ${name.toString()}`)
      }
    }
    assert.equal(
      readListing(await client.done('READDIR', [root, wide(0), wide(0), 9999])).entries.length,
      3,
    )
  })

  test('`.` and `..` can be looked up, but not added or removed', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const directory = await make(client, 'MKDIR', root, 'directory', wanted({ mode: 0o755 }))
    assert.deepEqual(await client.find(directory, '.'), directory)
    assert.deepEqual(await client.find(directory, '..'), root)
    assert.deepEqual(await client.find(root, '..'), root)
    for (const dots of ['.', '..']) {
      assert.equal(await statusOf(client, 'CREATE', root, dots, unchecked()), status.exist)
      assert.equal(await statusOf(client, 'MKDIR', root, dots, wanted()), status.exist)
      assert.equal(await statusOf(client, 'REMOVE', directory, dots), status.inval)
      assert.equal(await statusOf(client, 'RENAME', root, 'directory', root, dots), status.inval)
    }
    assert.equal(await statusOf(client, 'RMDIR', directory, '.'), status.inval)
    assert.equal(await statusOf(client, 'RMDIR', directory, '..'), status.exist)
  })

  test('of any bytes are listed unchanged', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const names = [Buffer.from([0xff, 0xfe, 1]), Buffer.alloc(255, 0xe9), Buffer.from('\n\\"')]
    for (const name of names) await make(client, 'CREATE', root, name, guarded())
    const listing = readListing(await client.done('READDIR', [root, wide(0), wide(0), 9999]))
    assert.deepEqual(
      listing.entries.slice(2).map(({ name }) => name),
      names,
    )
  })
})

suite('CREATE', () => {
  test('guarded fails the second time; unchecked truncates only if the size is given', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded(0o600))
    await client.done('WRITE', writeTo(file, 0, 'content'))
    assert.equal(await statusOf(client, 'CREATE', root, 'file', guarded()), status.exist)
    assert.deepEqual(await make(client, 'CREATE', root, 'file', unchecked(0o777)), file)
    assert.deepEqual(
      [(await client.attributes(file)).size, (await client.attributes(file)).mode],
      [7, 0o600],
    )
    await make(client, 'CREATE', root, 'file', 0, wanted({ size: 0 }))
    assert.equal((await client.attributes(file)).size, 0)
    await make(client, 'MKDIR', root, 'directory', wanted())
    assert.equal(await statusOf(client, 'CREATE', root, 'directory', unchecked()), status.exist)
  })

  test('exclusive with the same verifier finds the file, even after a restart', async () => {
    const fileSystem = createMemoryFileSystem()
    let file: Buffer
    {
      await using served = await serveToClient({ fileSystem })
      file = await make(served.client, 'CREATE', served.root, 'file', exclusive('\xff12345\x80'))
    }
    await using served = await serveToClient({ fileSystem })
    const { client, root } = served
    const again = [root, 'file', exclusive('\xff12345\x80')]
    assert.deepEqual(await make(client, 'CREATE', ...again), file)
    assert.equal(
      await statusOf(client, 'CREATE', root, 'file', exclusive('otherone')),
      status.exist,
    )
    await client.done('SETATTR', [file, wanted({ accessed: 'now', modified: 'now' }), 0])
    assert.equal(await statusOf(client, 'CREATE', ...again), status.exist)
  })
})

suite('requests that must not run twice', () => {
  /**
   * These requests fail if they run twice; in one case the second run finds the node of the first.
   */
  const requests: [string, ProcedureName, (root: Buffer, file: Buffer) => Part, number][] = [
    ['CREATE', 'CREATE', (root) => [root, 'new', guarded()], status.exist],
    ['exclusive CREATE', 'CREATE', (root) => [root, 'new', exclusive('verifier')], status.ok],
    ['MKDIR', 'MKDIR', (root) => [root, 'new', wanted()], status.exist],
    ['SYMLINK', 'SYMLINK', (root) => [root, 'new', wanted(), 'target'], status.exist],
    ['MKNOD', 'MKNOD', (root) => [root, 'new', 7, wanted()], status.exist],
    ['REMOVE', 'REMOVE', (root) => [root, 'file'], status.noent],
    ['RMDIR', 'RMDIR', (root) => [root, 'directory'], status.noent],
    ['RENAME', 'RENAME', (root) => [root, 'file', root, 'new'], status.noent],
    ['LINK', 'LINK', (root, file) => [file, root, 'new'], status.exist],
  ]

  for (const [title, name, parts, otherwise] of requests) {
    test(`${title}: a repeated request gets the first reply, even after a restart`, async () => {
      const fileSystem = createMemoryFileSystem()
      const xid = 0x51515151
      let first: Buffer
      let request: Part
      {
        await using served = await serveToClient({ fileSystem })
        const { client, root } = served
        const file = await make(client, 'CREATE', root, 'file', guarded())
        await make(client, 'MKDIR', root, 'directory', wanted())
        request = parts(root, file)
        first = Buffer.from((await client.done(name, request, { xid })).since(0))
      }
      await using served = await serveToClient({ fileSystem })
      const { client } = served
      assert.deepEqual((await client.done(name, request, { xid })).since(0), first)
      assert.equal((await client.ask(name, request, { xid: xid + 1 })).status, otherwise)
    })
  }

  test('a request that runs a second time because of a full disk is answered once', async () => {
    const memory = createMemoryFileSystem()
    const removals: boolean[] = []
    const fileSystem: typeof memory = {
      ...memory,
      // The first run is undone.
      together(action) {
        action()
        return action()
      },
      remove(directory, name) {
        removals.push(true)
        if (removals.length === 2) memory.remove(directory, name)
      },
    }
    await using served = await serveToClient({ fileSystem })
    const { client, root } = served
    const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
    memory.create(memory.root, Buffer.from('file'), made)
    const reader = await client.done('REMOVE', [root, 'file'])
    readChange(reader)
    assert.equal(reader.since(reader.position).length, 0)
    assert.equal(removals.length, 2)
  })

  test('SETATTR with a guard gets the first reply; with another time in the guard it fails', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const { changed } = await client.attributes(file)
    const parts = [file, wanted({ mode: 0o600 }), 1, ...changed]
    const first = await client.done('SETATTR', parts, { xid: 0x71717171 })
    const again = await client.done('SETATTR', parts, { xid: 0x71717171 })
    assert.deepEqual(again.since(0), first.since(0))
    const { status: found, reader } = await client.ask('SETATTR', parts)
    assert.equal(found, status.notSync)
    assert.equal(readChange(reader).after?.mode, 0o600)
  })

  test('the same number with other arguments or another user is another request', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    await client.done('SETATTR', [root, wanted({ mode: 0o777 }), 0])
    const xid = 0x52525252
    await client.done('MKDIR', [root, 'one', wanted()], { xid })
    await client.done('MKDIR', [root, 'two', wanted()], { xid })
    const { status: found } = await client.ask('MKDIR', [root, 'one', wanted()], { xid, uid: 5 })
    assert.equal(found, status.exist)
  })
})

suite('writing', () => {
  test('unstable is answered at once; all other writes wait for stable storage', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const { waits } = server.fileSystem
    const file = await make(client, 'CREATE', root, 'file', guarded())
    assert.deepEqual(waits, { stable: 1, commit: 0 })
    const committed = async (how: number) => {
      const reader = await client.done('WRITE', writeTo(file, 0, 'data', how))
      readChange(reader)
      return [reader.uint32(), reader.uint32()]
    }
    assert.deepEqual(await committed(stable.unstable), [4, stable.unstable])
    assert.deepEqual(waits, { stable: 1, commit: 0 })
    assert.deepEqual(await committed(stable.dataSync), [4, stable.fileSync])
    assert.deepEqual(await committed(stable.fileSync), [4, stable.fileSync])
    assert.deepEqual(waits, { stable: 1, commit: 2 })
    await client.done('COMMIT', [file, wide(0), 0])
    assert.deepEqual(waits, { stable: 1, commit: 3 })
    await client.done('SETATTR', [file, wanted({ mode: 0o600 }), 0])
    assert.deepEqual(waits, { stable: 2, commit: 3 })
  })

  async function verifierOf(client: NfsClient, file: Buffer): Promise<string> {
    const reader = await client.done('COMMIT', [file, wide(0), 0])
    readChange(reader)
    return reader.fixed(8).toString('hex')
  }

  test('has the same verifier until the server restarts', async () => {
    const fileSystem = createMemoryFileSystem()
    const verifiers: string[] = []
    for (let start = 0; start < 2; start++) {
      await using served = await serveToClient({ fileSystem })
      const { client, root } = served
      const file = await make(client, 'CREATE', root, 'file', unchecked())
      const reader = await client.done('WRITE', writeTo(file, 0, 'data'))
      readChange(reader)
      for (let word = 0; word < 2; word++) reader.uint32()
      const verifier = reader.fixed(8).toString('hex')
      assert.equal(await verifierOf(client, file), verifier)
      verifiers.push(verifier)
    }
    assert.notEqual(verifiers[0], verifiers[1])
  })

  test('to a failing disk is reported, and makes clients write again', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const verifier = await verifierOf(client, file)
    server.fileSystem.failure = 'EIO'
    const { status: found, reader } = await client.ask('COMMIT', [file, wide(0), 0])
    assert.equal(found, status.io)
    assert.equal(readChange(reader).after?.size, 0)
    assert.deepEqual(server.errors, ['COMMIT for 127.0.0.1 failed: EIO'])
    server.fileSystem.failure = 'ENOSPC'
    assert.equal(await statusOf(client, 'MKDIR', root, 'directory', wanted()), status.nospc)
    server.fileSystem.failure = undefined
    assert.notEqual(await verifierOf(client, file), verifier)
  })

  test('to a full disk fails for the machine, and is reported to the person', async () => {
    const fileSystem = createMemoryFileSystem()
    await using served = await serveToClient({ fileSystem })
    const { client, root, server } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    fileSystem.write = () => {
      throw new FileSystemError('ENOSPC', 'no room')
    }
    assert.equal((await client.ask('WRITE', writeTo(file, 0, 'data'))).status, status.nospc)
    assert.deepEqual(server.errors, ['WRITE for 127.0.0.1 failed: no room'])
  })

  test('beyond the size limit of a file fails, with the attributes before and after', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const beyond: Part = (writer) => writer.fixed(Buffer.from('ffffffffffffffff', 'hex'))
    const { status: found, reader } = await client.ask('WRITE', [file, beyond, 4, 0, 'data'])
    assert.equal(found, status.fbig)
    assert.equal(readChange(reader).before?.size, 0)
    assert.equal(await statusOf(client, 'WRITE', file, wide(2 ** 40), 4, 0, 'data'), status.fbig)
    assert.equal(await statusOf(client, 'WRITE', file, wide(0), 5, 0, 'data'), status.inval)
    assert.equal(await statusOf(client, 'WRITE', root, wide(0), 4, 0, 'data'), status.isdir)
    assert.equal((await client.attributes(file)).size, 0)
  })

  test('by a user other than root clears setuid and setgid', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const modeAfter = async (mode: number, uid: number) => {
      await client.done('SETATTR', [file, wanted({ mode }), 0])
      await client.done('WRITE', writeTo(file, 0, 'data'), { uid })
      return (await client.attributes(file)).mode
    }
    assert.equal(await modeAfter(0o6777, 1000), 0o777)
    assert.equal(await modeAfter(0o6767, 1000), 0o2767)
    assert.equal(await modeAfter(0o6777, 0), 0o6777)
  })
})

suite('READ', () => {
  test('tells the end of the file', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    await client.done('WRITE', writeTo(file, 0, 'sixteen bytes ok'))
    const read = async (offset: Part, count: number) => {
      const reader = await client.done('READ', [file, offset, count])
      assert.equal(readAfter(reader)?.size, 16)
      const size = reader.uint32()
      const isEnd = reader.boolean()
      const data = reader.opaque()
      assert.equal(data.length, size)
      assert.equal(reader.since(reader.position).length, 0)
      return [data.toString(), isEnd]
    }
    assert.deepEqual(await read(wide(0), 7), ['sixteen', false])
    assert.deepEqual(await read(wide(0), 15), ['sixteen bytes o', false])
    assert.deepEqual(await read(wide(0), 16), ['sixteen bytes ok', true])
    assert.deepEqual(await read(wide(14), 0xffffffff), ['ok', true])
    assert.deepEqual(await read(wide(16), 10), ['', true])
    assert.deepEqual(await read(raw(Buffer.alloc(8, 0xff)), 10), ['', true])
    assert.deepEqual(await read(wide(3), 0), ['', false])
  })

  test('returns at most 1 MiB, and the next calls return the rest', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const id = (await client.attributes(file)).fileId
    const content = Buffer.from(Uint8Array.from({ length: 3_000_001 }, (_, index) => index % 251))
    server.fileSystem.write(id, 0, content)
    const readAt = async (offset: number) => {
      const reader = await client.done('READ', [file, wide(offset), 0xffffffff])
      readAfter(reader)
      reader.uint32()
      const isEnd = reader.boolean()
      return { isEnd, data: reader.opaque() }
    }
    // All calls at once, because their replies share buffers.
    const parts = await Promise.all([0, 1, 2].map((index) => readAt(index * 2 ** 20)))
    assert.ok(Buffer.concat(parts.map(({ data }) => data)).equals(content))
    assert.deepEqual(
      parts.map(({ isEnd }) => isEnd),
      [false, false, true],
    )
  })
})

suite('READDIR and READDIRPLUS', () => {
  const first = (root: Buffer, ...sizes: number[]): Part => [root, wide(0), wide(0), ...sizes]

  test('use at most the given size, and continue where they stopped', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const names = Array.from({ length: 40 }, (_, index) => 'n'.repeat(index + 1))
    for (const name of names) await make(client, 'CREATE', root, name, guarded())
    for (const isPlus of [false, true]) {
      const procedure = isPlus ? 'READDIRPLUS' : 'READDIR'
      for (let size = 330; size < 3000; size += 217) {
        const found: string[] = []
        let [cookie, verifier]: [number, Buffer] = [0, Buffer.alloc(8)]
        for (let isEnd = false; !isEnd;) {
          const sizes = isPlus ? [size, size] : [size]
          const reader = await client.done(procedure, [root, wide(cookie), raw(verifier), ...sizes])
          const listing = readListing(reader, isPlus)
          assert.ok(listing.bytes <= size, `${listing.bytes} of ${size}`)
          found.push(...listing.entries.map(({ name }) => name.toString()))
          isEnd = listing.isEnd
          cookie = listing.entries.at(-1)?.cookie ?? cookie
          ;({ verifier } = listing)
        }
        assert.deepEqual(found, ['.', '..', ...names])
      }
    }
  })

  test('return the right attributes and handle for each entry', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const directory = await make(client, 'MKDIR', root, 'directory', wanted({ mode: 0o755 }))
    const file = await make(client, 'CREATE', directory, 'file', guarded())
    const reader = await client.done('READDIRPLUS', first(directory, 9999, 9999))
    const { entries } = readListing(reader, true)
    const handles = [directory, root, file]
    assert.deepEqual(
      entries.map(({ handle }) => handle),
      handles,
    )
    assert.deepEqual(
      entries.map(({ attributes }) => attributes),
      await Promise.all(handles.map((handle) => client.attributes(handle))),
    )
    assert.deepEqual(
      entries.map(({ fileId, attributes }) => fileId === attributes?.fileId),
      [true, true, true],
    )
  })

  test('continue at the right entry after any change of the directory', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    for (const name of ['a', 'b', 'c', 'd']) await make(client, 'CREATE', root, name, guarded())
    const whole = readListing(await client.done('READDIR', first(root, 9999)))
    const after = whole.entries[3] // b
    for (const name of ['a', 'b', 'c']) await client.done('REMOVE', [root, name])
    await make(client, 'CREATE', root, 'e', guarded())
    const parts = [root, wide(after?.cookie ?? 0), raw(whole.verifier), 9999]
    const rest = readListing(await client.done('READDIR', parts))
    assert.deepEqual(
      rest.entries.map(({ name }) => name.toString()),
      ['d', 'e'],
    )
  })

  test('refuse a size that is too small, a wrong verifier, and a node that is no directory', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    assert.equal(await statusOf(client, 'READDIR', first(root, 40)), status.tooSmall)
    assert.equal(await statusOf(client, 'READDIRPLUS', first(root, 10, 9999)), status.tooSmall)
    assert.equal(await statusOf(client, 'READDIRPLUS', first(root, 9999, 10)), status.tooSmall)
    const foreign = [root, wide(1), raw(Buffer.alloc(8, 1)), 9999]
    assert.equal(await statusOf(client, 'READDIR', ...foreign), status.badCookie)
    assert.equal(await statusOf(client, 'READDIR', first(file, 9999)), status.notdir)
  })

  test('return only names if the caller may read but not search the directory', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const directory = await make(client, 'MKDIR', root, 'directory', wanted({ mode: 0o744 }))
    await make(client, 'CREATE', directory, 'file', guarded())
    const reader = await client.done('READDIRPLUS', first(directory, 9999, 9999), { uid: 1000 })
    for (const { attributes, handle } of readListing(reader, true).entries) {
      assert.deepEqual([attributes, handle], [undefined, undefined])
    }
    await client.done('SETATTR', [directory, wanted({ mode: 0o711 }), 0])
    const { status: found } = await client.ask('READDIR', first(directory, 9999), { uid: 1000 })
    assert.equal(found, status.access)
  })
})

suite('every procedure', () => {
  test('refuses arguments that are cut off anywhere, and then changes nothing', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const before = await client.attributes(root)
    const complete: [ProcedureName, Part[]][] = [
      ['SETATTR', [file, wanted({ mode: 0, size: 5 }), 1, 0, 0]],
      ['LOOKUP', [root, 'file']],
      ['ACCESS', [root, 63]],
      ['READ', [file, wide(0), 5]],
      ['WRITE', [file, wide(0), 4, 0, 'data']],
      ['CREATE', [root, 'new', exclusive('verifier')]],
      ['MKDIR', [root, 'new', wanted({ mode: 1 })]],
      ['SYMLINK', [root, 'new', wanted(), 'target']],
      ['MKNOD', [root, 'new', 3, wanted(), 1, 3]],
      ['REMOVE', [root, 'file']],
      ['RMDIR', [root, 'file']],
      ['RENAME', [root, 'file', root, 'new']],
      ['LINK', [file, root, 'new']],
      ['READDIR', [root, wide(0), wide(0), 999]],
      ['READDIRPLUS', [root, wide(0), wide(0), 999, 999]],
    ]
    using rpc = await connectRpc(server.port)
    for (const [name, parts] of complete) {
      const cut = parts.slice(0, -1)
      await assert.rejects(
        rpc.call(100003, procedureNumber(name), (writer) => {
          for (const part of cut) writePart(writer, part)
        }),
        /00000004$/,
        name,
      )
    }
    assert.deepEqual(await client.attributes(root), before)
    assert.deepEqual(server.errors, [])
  })

  test('accepts or refuses any arguments without a defect', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    const word = fc.oneof(fc.nat(3), fc.nat(0xffffffff))
    const text = fc.constantFrom('file', 'new', '.', '..', 'a/b')
    const handle = fc.constantFrom(root, root, file)
    const part = fc.oneof(word, word, text, handle, fc.uint8Array({ maxLength: 80 }))
    const name = fc.constantFrom(...procedureNames)
    const ends = new Set<string>()
    await fc.assert(
      fc.asyncProperty(
        name,
        handle,
        fc.array(part, { maxLength: 14 }),
        async (name, first, rest) => {
          const end = await client.ask(name, [first, ...rest], { uid: 1000 }).then(
            ({ status }) => status,
            (error: unknown) => {
              assert.match(String(error), /the call failed: .*00000004$/)
              return 'malformed'
            },
          )
          assert.notEqual(end, status.serverFault)
          ends.add(`${name} ${end}`)
        },
      ),
      { numRuns: 4000 },
    )
    assert.deepEqual(server.errors, [])
    for (const name of procedureNames) {
      assert.ok([...ends].some((end) => end.startsWith(`${name} `)))
    }
    assert.ok((await client.attributes(root)).type === 2)
  })

  test('is supported, and there is no other', async () => {
    await using server = await startTestServer()
    using rpc = await connectRpc(server.port)
    await rpc.call(100003, 0, () => {})
    await assert.rejects(
      rpc.call(100003, 22, () => {}),
      /00000003$/,
    )
  })

  test('tells the observer its subject', async () => {
    const seen: string[] = []
    await using served = await serveToClient({
      observe: ({ machine, procedure, node, directory, name, bytes }) => {
        seen.push([machine, procedure, node, directory, name?.toString(), bytes].join(' '))
      },
    })
    const { client, root } = served
    const file = await make(client, 'CREATE', root, 'file', guarded())
    await client.done('WRITE', writeTo(file, 0, 'data'))
    await client.ask('LOOKUP', [root, 'nothing'])
    await client.done('LOOKUP', [root, 'file'])
    await client.done('READ', [file, wide(1), 10])
    await client.done('RENAME', [root, 'file', root, 'new'])
    await client.done('REMOVE', [root, 'new'])
    assert.deepEqual(seen, [
      'pi CREATE 2 1 file ',
      'pi WRITE 2   4',
      'pi LOOKUP 2 1 file ',
      'pi READ 2   3',
      'pi RENAME 2 1 new ',
      'pi REMOVE 2 1 new ',
    ])
  })

  test('is answered as done if its observer fails, which is reported once', async () => {
    await using served = await serveToClient({
      observe({ procedure }) {
        if (procedure === 'RENAME') throw new FileSystemError('EIO', 'the disk failed')
      },
    })
    const { client, root, server } = served
    await make(client, 'CREATE', root, 'old', guarded())
    await client.done('RENAME', [root, 'old', root, 'new'])
    await client.done('RENAME', [root, 'new', root, 'old'])
    await client.done('LOOKUP', [root, 'old'])
    assert.deepEqual(server.errors, [
      'could not follow what pi does in its root (RENAME): the disk failed',
    ])
  })

  test('MKNOD makes special files, and no other nodes', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const device = await make(client, 'MKNOD', root, 'null', 4, wanted({ mode: 0o666 }), 1, 3)
    const { type, device: numbers, mode } = await client.attributes(device)
    assert.deepEqual([type, numbers, mode], [4, [1, 3], 0o666])
    assert.equal(await statusOf(client, 'MKNOD', root, 'file', 1, wanted()), status.badType)
    assert.equal(await statusOf(client, 'READ', device, wide(0), 5), status.inval)
  })

  test('can use a mounted directory whose name has no valid encoding', async () => {
    await using server = await startTestServer()
    using client = await connectNfs(server.port)
    const { handle: root } = await client.mount(exportPath)
    const name = Buffer.from([0xe9, 0xff, 0x41])
    const made = await make(client, 'MKDIR', root, name, wanted({ mode: 0o755 }))
    const path = Buffer.concat([Buffer.from(`${exportPath}/`), name])
    assert.deepEqual(await client.mount(path), { status: 0, handle: made })
  })

  test('can look up the parent of a mounted directory below an export', async () => {
    await using server = await startTestServer()
    using client = await connectNfs(server.port)
    const { handle: root } = await client.mount(exportPath)
    await make(client, 'MKDIR', root, 'below', wanted({ mode: 0o755 }))
    const { handle } = await client.mount(`${exportPath}/below`)
    assert.deepEqual(await client.find(handle, '..'), root)
  })
})

suite('a call that is not possible yet', () => {
  const fileSystem = createMemoryFileSystem()
  const create = fileSystem.create.bind(fileSystem)
  let refusals = 0
  let ready = Promise.withResolvers<void>()
  fileSystem.create = (...given) => {
    if (refusals-- > 0) throw new FileSystemError('EAGAIN', 'not yet', { until: ready.promise })
    return create(...given)
  }

  test('is run again when it may be possible, and others are answered meanwhile', async () => {
    await using served = await serveToClient({ fileSystem })
    const { client, root } = served
    ;[refusals, ready] = [1, Promise.withResolvers()]
    const made = make(client, 'MKDIR', root, 'made', wanted())
    await client.attributes(root)
    const { stable } = fileSystem.waits
    ready.resolve()
    assert.deepEqual(await made, await client.find(root, 'made'))
    assert.equal(fileSystem.waits.stable, stable + 1)
  })

  test('is refused if it is still not possible then, or if too many wait', async () => {
    await using served = await serveToClient({ fileSystem })
    const { client, root } = served
    ;[refusals, ready] = [1000, Promise.withResolvers()]
    const answers = Array.from({ length: 100 }, (_, number) =>
      statusOf(client, 'MKDIR', root, `new-${number}`, wanted()),
    )
    assert.equal(await Promise.race(answers), status.jukebox)
    await waitUntil('all have come', () => refusals === 900)
    ready.resolve()
    const all = await Promise.all(answers)
    assert.ok(all.every((each) => each === status.jukebox))
    // The calls that waited were run twice.
    assert.equal(refusals, 900 - 64)
  })

  test('is run again for each of many machines, also if one of them has very many', async () => {
    const machine = machineWith(exportOf(fileSystem))
    await using server = await startTestServer({
      fileSystem,
      machineOf: ({ address }) => ({ ...machine, name: address }),
    })
    const hosts = Array.from({ length: 40 }, (_, index) => `127.0.1.${index + 1}`)
    const clients = await Promise.all(hosts.map((host) => connectNfs(server.port, host)))
    using closing = new DisposableStack()
    for (const client of clients) closing.use(client)
    const [greedy = assert.fail(), ...others] = clients
    const { handle: root } = await greedy.mount(exportPath)
    ;[refusals, ready] = [200 + others.length, Promise.withResolvers()]
    const ofGreedy = Array.from({ length: 200 }, (_, number) =>
      statusOf(greedy, 'MKDIR', root, `greedy-${number}`, wanted()),
    )
    const ofOthers = others.map((client, number) =>
      statusOf(client, 'MKDIR', root, `other-${number}`, wanted()),
    )
    await waitUntil('all have come', () => refusals === 0)
    ready.resolve()
    assert.deepEqual(
      await Promise.all(ofOthers),
      others.map(() => 0),
    )
    const succeeded = (await Promise.all(ofGreedy)).filter((each) => each === 0)
    assert.equal(succeeded.length, 64)
  })

  test('is refused if its arguments turn out to be malformed', async () => {
    await using served = await serveToClient({ fileSystem })
    const { client, root } = served
    ;[refusals, ready] = [0, Promise.withResolvers()]
    const attributes = fileSystem.attributes.bind(fileSystem)
    fileSystem.attributes = () => {
      fileSystem.attributes = attributes
      throw new FileSystemError('EAGAIN', 'not yet', { until: ready.promise })
    }
    const answer = statusOf(client, 'MKDIR', root, 'new', [0, 0, 0, 0, 7, 7])
    ready.resolve()
    const garbageArguments = /the call failed: .*00000004$/
    await assert.rejects(answer, garbageArguments)
    assert.deepEqual(served.server.errors, [])
  })
})

suite('the data about the file system', () => {
  test('include the free space, and the part of it that may be used [RFC 1813 §3.3.18]', async () => {
    await using served = await serveToClient()
    const { client, root, server } = served
    const reader = await client.done('FSSTAT', [root])
    readAfter(reader)
    const { total, free, available, files, freeFiles } = server.fileSystem.space()
    assert.ok(available < free)
    assert.deepEqual(
      Array.from({ length: 6 }, () => reader.uint64()),
      [total, free, available, files, freeFiles, freeFiles],
    )
  })

  test('include the size limit of files, and no file can be larger [RFC 1813 §3.3.19]', async () => {
    await using served = await serveToClient()
    const { client, root } = served
    const reader = await client.done('FSINFO', [root])
    readAfter(reader)
    for (let word = 0; word < 7; word++) reader.uint32()
    const largest = reader.uint64()
    const file = await make(client, 'CREATE', root, 'file', unchecked(0o4755))
    const before = await client.attributes(file)
    assert.equal(await statusOf(client, 'WRITE', writeTo(file, largest, 'x')), status.fbig)
    const grow = wanted({ size: largest + 1, mode: 0o600 })
    assert.equal(await statusOf(client, 'SETATTR', file, grow, 0), status.fbig)
    assert.deepEqual(await client.attributes(file), before)
  })
})
