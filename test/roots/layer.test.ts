// Behaviour of layers that model.test.ts does not compare.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, lstatSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import type { FileSystem, NodeKind } from '../../src/protocols/nfs/file-system.ts'
import { createClock } from '../../src/roots/clock.ts'
import { openLayer } from './support/open-layer.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { numbered } from './support/numbered.ts'
import { find, put, read, untilDone } from './support/stored-layers.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())
const made = { mode: 0o600, uid: 0, gid: 0 }

/** Runs the actions one after the other; the layer is closed and opened again between them. */
async function lives(
  prepare: (tree: string) => void,
  ...actions: readonly ((system: FileSystem) => unknown)[]
): Promise<void> {
  const [tree, directory] = [freshName(), freshName()]
  for (const each of [tree, directory]) mkdirSync(each)
  prepare(tree)
  for (const action of actions) {
    const layer = openLayer(directory, createIndex('tree', tree))
    try {
      await action(layer.fileSystem)
    } finally {
      await layer.close()
    }
  }
}

suite('an image below', () => {
  test('has the same numbers at each walk, and one number for all names of a file', () =>
    lives(
      (tree) => {
        mkdirSync(join(tree, 'b'))
        for (const name of ['a', 'b/x', 'c']) writeFileSync(join(tree, name), name)
        linkSync(join(tree, 'a'), join(tree, 'b/other'))
      },
      (system) => {
        assert.equal(find(system, 'a'), find(system, 'b/other'))
        assert.equal(system.attributes(find(system, 'a') ?? 0).links, 2)
        assert.deepEqual(
          ['', 'a', 'b', 'b/x', 'c'].map((path) => find(system, path)),
          [1, 2, 3, 4, 5],
        )
      },
      (system) => {
        assert.deepEqual(
          ['', 'a', 'b', 'b/x', 'c'].map((path) => find(system, path)),
          [1, 2, 3, 4, 5],
        )
      },
    ))

  test('belongs to root, even if another user made it', async () => {
    const tree = freshName()
    mkdirSync(tree)
    writeFileSync(join(tree, 'a'), '')
    if (process.geteuid?.() === 0) execFileSync('chown', ['-R', '1234:5678', tree])
    const { uid, gid } = numbered(createIndex('tree', tree)).node(2) ?? {}
    assert.deepEqual({ uid, gid }, { uid: 0, gid: 0 })
  })

  test('keeps the numbers of files that are written to, renamed and linked', () =>
    lives(
      (tree) => writeFileSync(join(tree, 'a'), 'image'),
      (system) => {
        const node = find(system, 'a') ?? 0
        put(system, 'a', 'I')
        system.rename(system.root, Buffer.from('a'), system.root, Buffer.from('b'))
        system.link(node, system.root, Buffer.from('c'))
        assert.deepEqual([find(system, 'b'), find(system, 'c')], [node, node])
        assert.equal(read(system, 'c'), 'Image')
      },
      (system) => assert.equal(read(system, 'b'), 'Image'),
    ))
})

suite('data', () => {
  const hole = 64 * 1024 * 1024

  test('has holes where nothing was written', () =>
    lives(
      () => {},
      async (system) => {
        const file = put(system, 'a', 'beginning')
        system.write(file, hole, Buffer.from('end'))
        await system.commit(file)
        const { size, used } = system.attributes(file)
        assert.equal(size, hole + 3)
        assert.ok(used < 200_000, String(used))
      },
    ))

  test('of an image keeps its holes when it is copied', () =>
    lives(
      (tree) => {
        writeFileSync(join(tree, 'a'), 'beginning')
        truncateSync(join(tree, 'a'), hole)
        assert.ok(lstatSync(join(tree, 'a')).blocks * 512 < 200_000)
      },
      async (system) => {
        await untilDone(() => put(system, 'a', 'B'))
        const file = find(system, 'a') ?? 0
        system.write(file, hole - 1, Buffer.from('e'))
        await system.commit(file)
        const { size, used } = system.attributes(file)
        assert.equal(size, hole)
        assert.ok(used < 200_000, String(used))
        const bytes = Buffer.alloc(10)
        assert.equal(system.read(file, 0, bytes), 10)
        assert.equal(bytes.toString(), 'Beginning\0')
        assert.equal(system.read(file, hole - 2, bytes), 2)
        assert.equal(bytes.toString('latin1', 0, 2), '\0e')
      },
    ))

  test('may be as large as the largest file of the file system, and not larger', () =>
    lives(
      () => {},
      (system) => {
        const { maxFileSize } = system
        const tried = freshName()
        execFileSync('truncate', ['-s', String(maxFileSize), tried])
        if (maxFileSize < Number.MAX_SAFE_INTEGER) {
          const larger = ['-s', String(maxFileSize + 1), tried]
          assert.throws(() => execFileSync('truncate', larger, { stdio: 'pipe' }), /too large/)
        }
        const file = put(system, 'a', 'text')
        const before = system.attributes(file)
        const refused = { code: 'EFBIG' }
        const grow = () => system.setAttributes(file, { size: maxFileSize + 1, mode: 0o777 })
        assert.throws(grow, refused)
        assert.throws(() => system.write(file, maxFileSize, Buffer.from('x')), refused)
        assert.deepEqual(system.attributes(file), before)
        system.setAttributes(file, { size: maxFileSize })
        assert.equal(system.attributes(file).size, maxFileSize)
        rmSync(tried)
      },
    ))

  test('has the room of the file system of the layer, except the room for the server', async () => {
    const [tree, directory] = [freshName(), freshName()]
    for (const each of [tree, directory]) mkdirSync(each)
    const layer = openLayer(directory, createIndex('tree', tree))
    const output = execFileSync('stat', ['-f', '-c', '%S %b %f %a', directory]).toString()
    const [size = 0, blocks = 0, free = 0, available = 0] = output.split(' ').map(Number)
    const space = layer.fileSystem.space()
    assert.equal(space.total, blocks * size)
    // Other programs may write to that disk meanwhile, but the difference stays the same.
    assert.equal(space.free - space.available, (free - available) * size)
    await layer.close()
  })

  test('is removed from the disk with its last name', async () => {
    const [tree, directory] = [freshName(), freshName()]
    for (const each of [tree, directory]) mkdirSync(each)
    const layer = openLayer(directory, createIndex('tree', tree))
    const { fileSystem: system } = layer
    const file = put(system, 'a', 'text')
    const onDisk = join(directory, 'data', file.toString(16))
    await system.commit(file)
    system.remove(system.root, Buffer.from('a'))
    assert.ok(lstatSync(onDisk), 'gone before its removal is on the disk')
    await system.stable()
    assert.equal(lstatSync(onDisk, { throwIfNoEntry: false }), undefined)
    await layer.close()
  })
})

suite('nodes', () => {
  test('of every kind are as they were made, also after a restart', () => {
    const kinds: NodeKind[] = [
      'file',
      'directory',
      'symlink',
      'character',
      'block',
      'fifo',
      'socket',
    ]
    const device = { major: 0xfff, minor: 0xfffff }
    const time = { seconds: -7, nanoseconds: 999_999_999 }
    const check = (system: FileSystem) => {
      for (const kind of kinds) {
        const found = system.attributes(find(system, kind) ?? 0)
        assert.equal(found.kind, kind)
        assert.equal(found.mode, 0o7751)
        assert.deepEqual([found.uid, found.gid], [4_000_000_000, 4_000_000_001])
        assert.deepEqual([found.accessed, found.modified], [time, time])
        const isDevice = kind === 'character' || kind === 'block'
        assert.deepEqual(found.device, isDevice ? device : { major: 0, minor: 0 })
      }
      const link = find(system, 'symlink') ?? 0
      assert.deepEqual(system.readLink(link), Buffer.from([0xff, 0x2f]))
      assert.equal(system.attributes(link).size, 2)
    }
    return lives(
      () => {},
      (system) => {
        for (const kind of kinds) {
          system.create(system.root, Buffer.from(kind), {
            ...{ kind, mode: 0o7751, uid: 4_000_000_000, gid: 4_000_000_001 },
            ...{ accessed: time, modified: time },
            ...(kind === 'symlink' && { target: Buffer.from([0xff, 0x2f]) }),
            ...((kind === 'character' || kind === 'block') && { device }),
          })
        }
        check(system)
      },
      check,
    )
  })

  test('that are removed are stale, and their numbers are never given again', async () => {
    let gone = 0
    await lives(
      (tree) => writeFileSync(join(tree, 'image'), ''),
      (system) => {
        gone = put(system, 'a', 'text')
        system.remove(system.root, Buffer.from('a'))
        system.remove(system.root, Buffer.from('image'))
      },
      (system) => {
        assert.ok(put(system, 'b', 'text') > gone)
        for (const node of [gone, 2, 3, 0, -1, 2 ** 52]) {
          assert.throws(() => system.attributes(node), { code: 'ESTALE' })
          assert.throws(() => system.lookup(node, Buffer.from('x')), { code: 'ESTALE' })
          assert.throws(() => [...system.list(node, 0)], { code: 'ESTALE' })
          assert.throws(() => system.write(node, 0, Buffer.from('x')), { code: 'ESTALE' })
          assert.throws(() => system.link(node, system.root, Buffer.from('x')), { code: 'ESTALE' })
        }
      },
    )
  })
})

suite('operations', () => {
  test('in another operation are undone with it', () =>
    lives(
      (tree) => writeFileSync(join(tree, 'image'), 'image'),
      (system) => {
        const before = system.attributes(system.root)
        const file = put(system, 'file', 'as it was')
        const ofFile = system.attributes(file)
        for (const size of [0, 3, 100]) {
          const resize = () => {
            system.setAttributes(file, { size })
            assert.equal(system.attributes(file).size, size)
            throw new Error('undone')
          }
          assert.throws(() => system.together(resize), /undone/)
          assert.equal(read(system, 'file'), 'as it was')
          assert.deepEqual(system.attributes(file), ofFile)
        }
        system.together(() => system.setAttributes(file, { size: 2 }))
        assert.equal(read(system, 'file'), 'as')
        system.remove(system.root, Buffer.from('file'))
        const { modified, changed } = system.attributes(system.root)
        Object.assign(before, { modified, changed })
        assert.throws(
          () =>
            system.together(() => {
              put(system, 'image', 'I')
              put(system, 'new', 'new')
              system.rename(system.root, Buffer.from('image'), system.root, Buffer.from('moved'))
              system.rememberReply(Buffer.from('key'), Buffer.from('reply'))
              throw new Error('undone')
            }),
          /undone/,
        )
        assert.deepEqual(system.attributes(system.root), before)
        assert.equal(read(system, 'image'), 'image')
        assert.equal(find(system, 'new'), undefined)
        assert.equal(system.recallReply(Buffer.from('key')), undefined)
        put(system, 'image', 'i')
      },
      (system) => assert.equal(read(system, 'image'), 'image'),
    ))

  test('that move a directory are refused if the directory is too deep', () =>
    lives(
      () => {},
      (system) => {
        const name = Buffer.from('d')
        const directory = { kind: 'directory', ...made } as const
        const byDepth = [system.root]
        system.together(() => {
          for (let depth = 1; depth <= 3000; depth++) {
            byDepth.push(system.create(byDepth[depth - 1] ?? 0, name, directory))
          }
        })
        const [shallow = 0, deep = 0] = [byDepth[2000], byDepth[3000]]
        const other = Buffer.from('other')
        system.create(system.root, other, directory)
        const file = put(system, 'file', 'text')
        const move = (from: Buffer, to: number) => () => system.rename(system.root, from, to, from)
        assert.throws(move(other, deep), { code: 'ENAMETOOLONG' })
        assert.throws(move(name, shallow), { code: 'EINVAL' })
        move(other, shallow)()
        assert.ok(system.lookup(shallow, other))
        // A file has nothing below it, so its depth does not matter.
        move(Buffer.from('file'), deep)()
        assert.equal(system.lookup(deep, Buffer.from('file')), file)
      },
    ))

  test('have replies, of which the last ones outlast a restart', () => {
    const key = (number: number) => Buffer.from(`key ${number}`)
    return lives(
      () => {},
      (system) => {
        for (let number = 0; number < 1500; number++) {
          system.rememberReply(key(number), Buffer.from(String(number)))
        }
        system.rememberReply(key(1499), Buffer.from('another'))
      },
      (system) => {
        assert.equal(system.recallReply(key(1499))?.toString(), 'another')
        assert.equal(system.recallReply(key(1000))?.toString(), '1000')
        assert.equal(system.recallReply(key(100)), undefined)
      },
    )
  })

  test('never have the same time as another operation', () => {
    const times = [5, 5, 5, 6, 4, 5, -1]
    const now = createClock(() => times.shift() ?? 0)
    const seen = Array.from({ length: 7 }, now)
    assert.deepEqual(
      seen.map(({ seconds, nanoseconds }) => [seconds, nanoseconds]),
      [
        ...[
          [0, 5_000_000],
          [0, 5_000_001],
          [0, 5_000_002],
          [0, 6_000_003],
        ],
        ...[
          [0, 4_000_004],
          [0, 5_000_005],
          [-1, 999_000_006],
        ],
      ],
    )
    return lives(
      () => {},
      (system) => {
        const file = system.create(system.root, Buffer.from('a'), { kind: 'file', ...made })
        const changes = new Set<string>()
        for (let count = 0; count < 1000; count++) {
          system.write(file, 0, Buffer.from('x'))
          changes.add(JSON.stringify(system.attributes(file).changed))
        }
        assert.equal(changes.size, 1000)
      },
    )
  })

  test('change the times of the directory or of the file, as the kernel does', () =>
    lives(
      (tree) => {
        mkdirSync(join(tree, 'd'))
        writeFileSync(join(tree, 'd/f'), 'image')
      },
      (system) => {
        const directory = find(system, 'd') ?? 0
        const file = find(system, 'd/f') ?? 0
        const name = Buffer.from('f')
        const stamps = () =>
          [directory, file].map((node) => {
            const { modified, changed } = system.attributes(node)
            return [modified, changed].map((time) => JSON.stringify(time))
          })
        /** The times that the action changes, of the directory and of the file: `m` and `c`. */
        const changed = (action: () => void) => {
          const before = stamps()
          action()
          const after = stamps()
          return after
            .map((times, node) =>
              times.map((time, at) => (time === before[node]?.[at] ? '' : 'mc'[at])),
            )
            .map((letters) => letters.join(''))
        }
        assert.deepEqual(
          changed(() => system.write(file, 0, Buffer.from('x'))),
          ['', 'mc'],
        )
        assert.deepEqual(
          changed(() => system.setAttributes(file, { size: 1 })),
          ['', 'mc'],
        )
        assert.deepEqual(
          changed(() => system.setAttributes(file, { mode: 0o600 })),
          ['', 'c'],
        )
        assert.deepEqual(
          changed(() => system.link(file, directory, Buffer.from('g'))),
          ['mc', 'c'],
        )
        assert.deepEqual(
          changed(() => system.remove(directory, Buffer.from('g'))),
          ['mc', 'c'],
        )
        assert.deepEqual(
          changed(() => system.rename(directory, name, directory, Buffer.from('h'))),
          ['mc', 'c'],
        )
        assert.deepEqual(
          changed(() => put(system, 'd/new', 'x')),
          ['mc', ''],
        )
        assert.deepEqual(
          changed(() => void read(system, 'd/h')),
          ['', ''],
        )
      },
    ))
})
