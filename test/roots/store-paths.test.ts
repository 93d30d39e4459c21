// Store paths of an image: each is walked when it is needed, and its nodes have the same numbers
// whatever else is in the image.

import assert from 'node:assert/strict'
import fs, {
  appendFileSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import {
  FileSystemError,
  type FileSystem,
  type NodeId,
} from '../../src/protocols/nfs/file-system.ts'
import { openLayerDatabase } from '../../src/roots/database.ts'
import { doNow } from '../../src/roots/steps.ts'
import { layOver } from '../../src/roots/lay-over.ts'
import type { LayerImage } from '../../src/roots/layer-image.ts'
import { openLayer } from './support/open-layer.ts'
import { isOfStore, isOwn, rootNode } from '../../src/roots/numbers.ts'
import { createPathStructures } from '../../src/roots/path-structures.ts'
import { createPathCache } from '../../src/roots/path-cache.ts'
import { verifyLayer } from '../../src/roots/verify.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames } from '../support/temporary.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'
import { createIndex, type IndexOptions } from './support/tree-index.ts'

/** The directories that were read, by their paths below the root tree. */
let directoriesRead: string[] = []
const { readdirSync: readDirectory } = fs
mock.method(fs, 'readdirSync', (...given: Parameters<typeof readDirectory>) => {
  directoriesRead.push(String(given[0]))
  return readDirectory(...given)
})
syncBuiltinESMExports()

const freshName = freshNames(modelDirectory())

/** A root tree with these store paths: each has a directory with files. */
function makeTree(names: readonly string[]): string {
  const root = freshName()
  const store = join(root, 'nix/store')
  mkdirSync(store, { recursive: true })
  for (const name of names) {
    mkdirSync(join(store, name, 'bin'), { recursive: true })
    writeFileSync(join(store, name, 'bin/run'), `run ${name}`)
    linkSync(join(store, name, 'bin/run'), join(store, name, 'same'))
    symlinkSync('bin/run', join(store, name, 'link'))
  }
  return root
}

function indexOf(root: string, names: readonly string[], options: IndexOptions = {}) {
  const storePaths = names.map((name) => ({ name, narHash: `sha256:${name}` }))
  return createIndex('image', root, { storePaths, ...options })
}

function openOver(root: string, names: readonly string[], options: IndexOptions = {}) {
  const directory = freshName()
  mkdirSync(directory)
  const index = indexOf(root, names, options)
  const open = () => openLayer(directory, index)
  return { directory, index, open, ...open() }
}

const damaged = (file: string) => (error: unknown) =>
  error instanceof FileSystemError && error.code === 'EIO' && error.message.startsWith(file)

function numbersIn(image: LayerImage, node: NodeId, path = ''): [string, NodeId][] {
  const found: [string, NodeId][] = [[path, node]]
  for (let place = 0; ; place++) {
    const child = image.childAt(node, place)
    if (!child) return found
    found.push(...numbersIn(image, child.node, `${path}/${child.name.toString()}`))
  }
}

function parentOf(system: FileSystem, node: NodeId): NodeId | undefined {
  return system.lookup(node, Buffer.from('..'))
}

suite('the store paths of an image', () => {
  test('are not walked before a machine needs them, and then one at a time', async () => {
    const names = ['a', 'b', 'c', 'd']
    const root = makeTree(names)
    directoriesRead = []
    const layer = openOver(root, names)
    const below = () => directoriesRead.filter((path) => /\/(nix\/store|fd\/\d+)\/[a-d]/.test(path))
    assert.equal(directoriesRead.filter((path) => path.endsWith('nix/store')).length, 1)
    assert.deepEqual(below(), [])
    const { fileSystem: system } = layer
    assert.deepEqual(
      [...system.list(find(system, 'nix/store') ?? 0, 0)].map(({ name }) => name.toString()),
      names,
    )
    assert.deepEqual(below(), [])
    // To count the links of a directory, its names are enough.
    assert.equal(system.attributes(find(system, 'nix/store/a') ?? 0).links, 3)
    assert.deepEqual(below().length, 1)
    assert.equal(read(system, 'nix/store/b/bin/run'), 'run b')
    assert.ok(
      below().every((path) => /\/(a|b|b\/bin)$/.test(path)),
      below().join(),
    )
    const readOnce = below().length
    assert.equal(read(system, 'nix/store/b/same'), 'run b')
    const other = openLayer(freshDirectory(), layer.index)
    assert.equal(read(other.fileSystem, 'nix/store/b/same'), 'run b')
    assert.equal(below().length, readOnce)
    await other.close()
    await layer.close()
  })

  test('are listed with the other names of the store, in the order of their bytes', async () => {
    const names = ['b', 'a', 'd']
    const root = makeTree(names)
    const others = ['.links', 'c', 'e']
    for (const name of others) mkdirSync(join(root, 'nix/store', name))
    const layer = openOver(root, names)
    const { fileSystem: system } = layer
    const store = find(system, 'nix/store') ?? 0
    const listed = [...system.list(store, 0)]
    assert.deepEqual(
      listed.map(({ name }) => name.toString()),
      ['.links', 'a', 'b', 'c', 'd', 'e'],
    )
    for (const { name, node } of listed) {
      assert.equal(system.lookup(store, name), node)
      assert.equal(isOfStore(node), names.includes(name.toString()))
      assert.equal(parentOf(system, node), store)
    }
    assert.equal(system.attributes(store).links, 8)
    const inside = find(system, 'nix/store/a/bin') ?? 0
    assert.equal(parentOf(system, inside), find(system, 'nix/store/a'))
    await layer.close()
  })

  test('can be files and links', async () => {
    const names = ['file', 'link']
    const root = makeTree([])
    writeFileSync(join(root, 'nix/store/file'), 'content')
    symlinkSync('file', join(root, 'nix/store/link'))
    const layer = openOver(root, names)
    const { fileSystem: system } = layer
    assert.equal(read(system, 'nix/store/file'), 'content')
    assert.equal(system.readLink(find(system, 'nix/store/link') ?? 0).toString(), 'file')
    assert.equal(put(system, 'nix/store/file', 'changed'), find(system, 'nix/store/file'))
    assert.equal(read(system, 'nix/store/file'), 'changed')
    await layer.close()
  })

  test('have nodes that are their own, even if files are hard links on the disk', async () => {
    const layer = openOver(makeTree(['a']), ['a'])
    const { fileSystem: system } = layer
    const [run, same] = ['bin/run', 'same'].map((name) => find(system, `nix/store/a/${name}`) ?? 0)
    assert.ok(run && same && run !== same)
    assert.equal(system.attributes(run).links, 1)
    put(system, 'nix/store/a/same', 'RUN')
    assert.equal(read(system, 'nix/store/a/bin/run'), 'run a')
    assert.equal(read(system, 'nix/store/a/same'), 'RUN a')
    await layer.close()
  })

  test('have the same numbers in another image of the same layer', () => {
    const database = openLayerDatabase(freshDirectory())
    const over = (names: readonly string[]) => {
      const index = indexOf(makeTree(names), names)
      const image = doNow(layOver(index, database, 'layer'))
      const numbers = numbersIn(image, rootNode)
      for (const [, node] of numbers) assert.equal(image.node(node)?.id, node)
      index.close()
      return numbers
    }
    const [first, second, third] = [over(['b', 'd']), over(['a', 'b', 'c', 'd']), over(['c', 'd'])]
    const known = new Map(second)
    for (const [path, node] of [...first, ...third]) assert.equal(known.get(path), node, path)
    assert.deepEqual(over(['b', 'd']), first)
    const all = second.map(([, node]) => node)
    assert.equal(new Set(all).size, all.length)
    assert.ok(!all.some(isOwn))
    database.close()
  })

  test('of the same name but with another NAR hash have other numbers', () => {
    const database = openLayerDatabase(freshDirectory())
    const numbers = ['one', 'other'].map((narHash) => {
      const index = createIndex('image', makeTree(['a']), { storePaths: [{ name: 'a', narHash }] })
      const image = doNow(layOver(index, database, 'layer'))
      index.close()
      return image.child(image.store ?? 0, Buffer.from('a'))
    })
    assert.notEqual(numbers[0], numbers[1])
    database.close()
  })

  test('with too many files are refused, and the others are served', async () => {
    const names = ['a', 'large']
    const root = makeTree(names)
    for (let count = 0; count < 10; count++) {
      writeFileSync(join(root, `nix/store/large/${count}`), '')
    }
    const layer = openOver(root, names, { maxNodes: 10 })
    const { index, fileSystem: system } = layer
    assert.equal(read(system, 'nix/store/a/same'), 'run a')
    const file = join(root, 'nix/store/large')
    assert.throws(() => index.tableOf(1), netimageError('too-many-files', { file, expected: 10 }))
    assert.throws(() => find(system, 'nix/store/large/0'), { code: 'EIO' })
    directoriesRead = []
    assert.throws(() => find(system, 'nix/store/large/0'), { code: 'EIO' })
    assert.deepEqual(directoriesRead, [])
    await layer.close()
  })
})

suite('a file of a store path', () => {
  const made = { mode: 0o755, uid: 0, gid: 0 }
  const directoryNode = { kind: 'directory', ...made } as const

  /** Store paths a and b, a directory of the machine in the store, and one outside. */
  function openStore() {
    const layer = openOver(makeTree(['a', 'b']), ['a', 'b'])
    const { fileSystem: system } = layer
    const store = find(system, 'nix/store') ?? 0
    const own = system.create(store, Buffer.from('own'), directoryNode)
    const home = system.create(system.root, Buffer.from('home'), directoryNode)
    const at = (path: string) => find(system, `nix/store/${path}`) ?? assert.fail(path)
    const rename = (from: string, to: NodeId) => {
      const [, parent = '', name = ''] = /^(.*?)([^/]+)$/.exec(from) ?? []
      system.rename(at(parent), Buffer.from(name), to, Buffer.from('new'))
    }
    return { layer, system, store, own, home, at, rename }
  }

  test('gets no name outside the store', async () => {
    const { layer, system, own, home, at, rename } = openStore()
    for (const path of ['a', 'a/bin', 'a/bin/run', 'a/link']) {
      assert.throws(() => rename(path, home), { code: 'EXDEV' }, path)
    }
    assert.throws(() => system.link(at('a/bin/run'), home, Buffer.from('new')), { code: 'EXDEV' })
    // Nor by way of a directory of the machine, or with a name that it has there.
    rename('a/bin', own)
    assert.throws(() => rename('own', home), { code: 'EXDEV' })
    assert.throws(() => rename('own/new', system.root), { code: 'EXDEV' })
    put(system, 'nix/store/own/new/run', 'RUN')
    assert.throws(() => rename('own/new/run', home), { code: 'EXDEV' })
    assert.deepEqual([...system.list(home, 0)], [])
    assert.equal(read(system, 'nix/store/own/new/run'), 'RUN a')
    await layer.close()
    assert.deepEqual(verifyLayer(layer.directory, layer.index).problems, [])
  })

  test('is moved, linked and removed in the store, as Nix does it', async () => {
    const { layer, system, store, own, home, at, rename } = openStore()
    // Optimising the store, and then collecting garbage.
    system.link(at('a/same'), own, Buffer.from('linked'))
    rename('b/same', at('a/bin'))
    rename('a', at('b'))
    rename('b', own)
    system.remove(own, Buffer.from('linked'))
    assert.equal(read(system, 'nix/store/own/new/new/same'), 'run a')
    assert.deepEqual(
      [...system.list(store, 0)].map(({ name }) => name.toString()),
      ['own'],
    )
    // The machine's own files may leave the store and come into it.
    put(system, 'nix/store/mine', 'mine')
    rename('mine', home)
    system.rename(home, Buffer.from('new'), store, Buffer.from('back'))
    assert.equal(read(system, 'nix/store/back'), 'mine')
    await layer.close()
    assert.deepEqual(verifyLayer(layer.directory, layer.index).problems, [])
  })
})

suite('a store path that has changed', () => {
  test('and is walked again is told by its name, and its new files are not given', async () => {
    const names = ['a', 'b', 'c']
    const root = makeTree(names)
    // The memory is too small for three store paths.
    const layer = openOver(root, names, { cache: createPathCache(1) })
    const { fileSystem: system } = layer
    const file = join(root, 'nix/store/a')
    const dropA = () => {
      for (const name of ['b', 'c']) {
        assert.equal(read(system, `nix/store/${name}/same`), `run ${name}`)
      }
    }
    assert.equal(read(system, 'nix/store/a/same'), 'run a')
    dropA()
    assert.equal(read(system, 'nix/store/a/same'), 'run a')
    appendFileSync(join(file, 'same'), ' and more')
    assert.throws(() => read(system, 'nix/store/a/bin/run'), damaged(join(file, 'bin/run')))
    dropA()
    assert.throws(() => read(system, 'nix/store/a/link'), damaged(`${file} has changed`))
    dropA()
    await layer.close()
  })

  test('is walked again after a minute, not for each question', async () => {
    const names = ['a', 'b', 'c']
    const root = makeTree(names)
    let now = 0
    const layer = openOver(root, names, { cache: createPathCache(1), now: () => now })
    const { fileSystem: system } = layer
    const use = (name: string) => read(system, `nix/store/${name}/bin/run`)
    const [file, moved] = [join(root, 'nix/store/a/bin/run'), join(root, 'moved')]
    for (const name of names) use(name)
    renameSync(file, moved)
    directoriesRead = []
    for (let time = 0; time < 5; time++) {
      assert.throws(() => use('a'), damaged(join(root, 'nix/store/a')))
    }
    assert.equal(directoriesRead.filter((path) => path.endsWith('/a/bin')).length, 1)
    renameSync(moved, file)
    assert.throws(() => use('a'), damaged(join(root, 'nix/store/a')))
    now = 60_000
    assert.equal(use('a'), 'run a')
    await layer.close()
  })

  test('into a file is told, and so is one that is gone', async () => {
    const names = ['a', 'b']
    const root = makeTree(names)
    const layer = openOver(root, names)
    const { fileSystem: system } = layer
    const [a, b] = names.map((name) => find(system, `nix/store/${name}`) ?? 0)
    assert.equal(system.attributes(b ?? 0).kind, 'directory')
    for (const name of names) rmSync(join(root, 'nix/store', name), { recursive: true })
    writeFileSync(join(root, 'nix/store/b'), '')
    assert.throws(() => system.attributes(a ?? 0), damaged(join(root, 'nix/store/a')))
    assert.throws(() => find(system, 'nix/store/b/bin'), damaged(join(root, 'nix/store/b')))
    await layer.close()
  })

  test('is refused below a layer that changed it, and only there', async () => {
    const names = ['a', 'b']
    const root = makeTree(names)
    const layer = openOver(root, names)
    put(layer.fileSystem, 'nix/store/a/bin/run', 'mod a')
    await layer.close()
    assert.deepEqual(verifyLayer(layer.directory, layer.index).problems, [])
    writeFileSync(join(root, 'nix/store/b/new'), '')
    const other = openLayer(layer.directory, indexOf(root, names))
    assert.equal(read(other.fileSystem, 'nix/store/a/bin/run'), 'mod a')
    await other.close()
    writeFileSync(join(root, 'nix/store/a/new'), '')
    const refused = netimageError('bad-state', { file: layer.directory })
    assert.throws(() => openLayer(layer.directory, indexOf(root, names)), refused)
    assert.throws(() => verifyLayer(layer.directory, indexOf(root, names)), refused)
  })

  test('while the server was down is told, and no handle opens another file', async () => {
    const names = ['a', 'b']
    const root = makeTree(names)
    const { directory, ...layer } = openOver(root, names)
    const [inA, inB] = names.map((name) => find(layer.fileSystem, `nix/store/${name}/link`) ?? 0)
    await layer.close()
    layer.index.close()
    const file = join(root, 'nix/store/a')
    writeFileSync(join(file, 'first'), 'another file')
    const index = indexOf(root, names)
    assert.match(verifyLayer(directory, index).problems.join('\n'), /^store path a has other files/)
    const again = openLayer(directory, index)
    const { fileSystem: system } = again
    assert.throws(() => system.readLink(inA ?? 0), damaged(`${file} has other files`))
    assert.throws(() => system.lookup(inA ?? 0, Buffer.from('x')), damaged(`${file} has other`))
    // The machine cannot change the path, either: the layer would not open any more.
    const top = find(system, 'nix/store/a') ?? 0
    assert.throws(() => system.setAttributes(top, { mode: 0o700 }), damaged(`${file} has other`))
    assert.equal(system.attributes(top).mode, 0o755)
    assert.equal(system.readLink(inB ?? 0).toString(), 'bin/run')
    await again.close()
    await openLayer(directory, indexOf(root, names)).close()
    rmSync(join(file, 'first'))
    const back = openLayer(directory, indexOf(root, names))
    assert.equal(back.fileSystem.readLink(inA ?? 0).toString(), 'bin/run')
    await back.close()
  })

  test('is recorded later if nothing could be written when its path was first used', () => {
    const names = ['a', 'b']
    const index = indexOf(makeTree(names), names)
    const database = openLayerDatabase(freshDirectory())
    doNow(layOver(index, database, 'layer'))
    const isRecorded = (path: number) => database.structureOf(path) !== undefined
    let isFull = true
    const structures = createPathStructures(index, {
      ...database,
      writeStructure(path, structure) {
        if (isFull) throw Object.assign(new Error('the disk is full'), { errcode: 13 })
        database.writeStructure(path, structure)
      },
    })
    structures.uses(0, 1)
    assert.ok(!isRecorded(1))
    isFull = false
    // A transaction of the machine is not touched.
    database.begin()
    structures.uses(1, 2)
    assert.ok(!isRecorded(1) && !isRecorded(2))
    database.rollback()
    structures.record()
    assert.ok(isRecorded(1) && isRecorded(2))
    database.close()
    index.close()
  })

  test('does not keep a layer closed that has not changed the path', async () => {
    const names = ['a', 'b']
    const root = makeTree(names)
    const layer = openOver(root, names)
    read(layer.fileSystem, 'nix/store/a/bin/run')
    put(layer.fileSystem, 'nix/store/b/bin/run', 'mod b')
    await layer.close()
    writeFileSync(join(root, 'nix/store/a/new'), '')
    directoriesRead = []
    const again = openLayer(layer.directory, indexOf(root, names))
    // The opening walks only the store paths that the layer has changed.
    assert.ok(directoriesRead.some((path) => path.endsWith('/b/bin')))
    assert.ok(!directoriesRead.some((path) => path.endsWith('/a/bin')))
    assert.equal(read(again.fileSystem, 'nix/store/b/bin/run'), 'mod b')
    assert.throws(() => read(again.fileSystem, 'nix/store/a/new'), damaged(root))
    await again.close()
  })

  test('is found at the start if its name is missing', () => {
    const root = makeTree(['a'])
    const file = join(root, 'nix/store/b')
    assert.throws(() => indexOf(root, ['a', 'b']), netimageError('image-damaged', { file }))
  })

  test('is not looked for in another directory that gets the name of the store', async () => {
    const root = makeTree(['a'])
    const layer = openOver(root, ['a'])
    const other = makeTree(['a'])
    writeFileSync(join(other, 'nix/store/a/secret'), 'secret')
    renameSync(join(root, 'nix'), join(root, 'moved'))
    symlinkSync(join(other, 'nix'), join(root, 'nix'))
    assert.equal(find(layer.fileSystem, 'nix/store/a/secret'), undefined)
    assert.equal(read(layer.fileSystem, 'nix/store/a/same'), 'run a')
    await layer.close()
  })
})

function freshDirectory(): string {
  const directory = freshName()
  mkdirSync(directory)
  return directory
}
