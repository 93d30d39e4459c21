// The server looks at the files of a large store path, and at those of an image outside the store paths, in
// pieces, and answers others in between.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import { FileSystemError, type FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { createImageIndexes, outside, type ImageIndex } from '../../src/roots/image-index.ts'
import { openLayer } from './support/open-layer.ts'
import { createPathCache } from '../../src/roots/path-cache.ts'
import { startNfsServer } from '../../src/protocols/nfs/server.ts'
import { connectNfs } from '../protocols/support/nfs-client.ts'
import { handleKey } from '../protocols/support/test-server.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames } from '../support/temporary.ts'
import { modelDirectory } from './support/layer-model.ts'
import { openBelow } from './support/open-below.ts'
import { find, put, read, untilDone } from './support/stored-layers.ts'
import { createIndex, type IndexOptions } from './support/tree-index.ts'
import { turnsOf } from './support/turns.ts'

// So long work has the same pieces on each computer: a few steps each.
let now = 0
let step = 1
mock.method(performance, 'now', () => (now += step))

const freshName = freshNames(modelDirectory())
/** Of a large store path. A small one has a thousand at most. */
const count = 5000

/** A root tree with these store paths. */
function makeTree(storePaths: Record<string, number>): string {
  const root = freshName()
  for (const [name, files] of Object.entries(storePaths)) {
    const at = join(root, 'nix/store', name)
    for (let file = 0; file < files; file++) {
      const folder = join(at, String(file % 100))
      if (file < 100) mkdirSync(folder, { recursive: true })
      symlinkSync(`target-${file}`, join(folder, `file-${file}`))
    }
  }
  return root
}

function opened(index: ImageIndex): ImageIndex & Disposable {
  return { ...index, [Symbol.dispose]: () => index.close() }
}

function freshDirectory(): string {
  const directory = freshName()
  mkdirSync(directory)
  return directory
}

function open(storePaths: Record<string, number>, options: IndexOptions = {}) {
  const root = makeTree(storePaths)
  const paths = Object.keys(storePaths).map((name) => ({ name, narHash: `sha256:${name}` }))
  const index = createIndex('image', root, { storePaths: paths, ...options })
  return { root, index, layer: openLayer(freshDirectory(), index) }
}

/** A root tree with one store path that has very many names in one directory. */
function withFlatPath() {
  const root = freshName()
  const flat = join(root, 'nix/store/flat')
  mkdirSync(join(flat, 'directory'), { recursive: true })
  for (let file = 0; file < count; file++) {
    symlinkSync('target', join(flat, `this-is-the-file-${file}`))
  }
  const storePaths = [{ name: 'flat', narHash: 'sha256:flat' }]
  return { root, index: createIndex('image', root, { storePaths }) }
}

function beingLookedAt(action: () => unknown): Promise<void> {
  try {
    action()
  } catch (error) {
    if (error instanceof FileSystemError && error.until) return error.until
    throw error
  }
  return assert.fail('it was looked at at once')
}

const target = (system: FileSystem, path: string, file: number) =>
  system.readLink(find(system, `nix/store/${path}/${file % 100}/file-${file}`) ?? assert.fail())

suite('the files of a large store path', () => {
  test('are looked at while others are served, and are then as they are at once', async () => {
    const { layer, index } = open({ large: count, small: 800 })
    const { fileSystem: system } = layer
    assert.equal(target(system, 'small', 7).toString(), 'target-7')
    const look = () => void target(system, 'large', 7)
    void beingLookedAt(look)
    put(system, 'other', 'other')
    assert.equal(read(system, 'other'), 'other')
    // Nothing of the store path itself is needed for these.
    assert.equal(system.attributes(find(system, 'nix/store/large') ?? 0).links, 102)
    assert.equal([...system.list(find(system, 'nix/store') ?? 0, 0)].length, 2)
    const turns = await untilDone(look)
    assert.ok(turns > 20, String(turns))
    for (const file of [0, 7, count - 1]) {
      assert.equal(target(system, 'large', file).toString(), `target-${file}`)
    }
    await layer.close()

    const { index: atOnce } = open({ large: count, small: 800 })
    assert.equal(index.structureOf(0), atOnce.structureOf(0))
    const structure = ({ rows, entries }: ReturnType<typeof index.tableOf>) => [
      ...[rows.length, entries.names.toString(), entries.node, entries.end],
    ]
    assert.deepEqual(structure(index.tableOf(0)), structure(atOnce.tableOf(0)))
  })

  test('are not even listed at once to find the attributes of the store path', async () => {
    const { index } = withFlatPath()
    const opened = openLayer(freshDirectory(), index)
    const { fileSystem: system } = opened
    const flat = find(system, 'nix/store/flat') ?? assert.fail()
    const look = () => system.attributes(flat)
    void beingLookedAt(look)
    const turns = await untilDone(() => void look())
    assert.ok(turns > 20, String(turns))
    assert.equal(look().links, 3)
    await opened.close()
  })

  test('are looked at once for all that ask, also if one of them cannot wait', async () => {
    const { layer, index } = open({ large: count })
    const { fileSystem: system } = layer
    const look = () => void target(system, 'large', 7)
    const first = beingLookedAt(look)
    assert.equal(beingLookedAt(look), first)
    assert.equal(index.tableOf(0), index.tableOf(0))
    look()
    await first
    look()
    await layer.close()
  })

  test('are refused if they change meanwhile, as at once', async () => {
    const { root, layer } = open({ large: count })
    const { fileSystem: system } = layer
    const look = () => void target(system, 'large', 7)
    const until = beingLookedAt(look)
    rmSync(join(root, 'nix/store/large'), { recursive: true })
    writeFileSync(join(root, 'nix/store/large'), '')
    await until
    assert.throws(look, { code: 'EIO' })
    await layer.close()
  })

  test('are refused if there are too many', async () => {
    const { layer, index } = open({ large: count }, { maxNodes: count - 1 })
    const look = () => void target(layer.fileSystem, 'large', 7)
    await beingLookedAt(look)
    assert.throws(look, { code: 'EIO' })
    assert.throws(() => index.tableOf(0), netimageError('too-many-files'))
    await layer.close()
  })

  test('are not looked at any more if nobody has the image any more', async () => {
    const { layer, index } = open({ large: count })
    const until = beingLookedAt(() => void target(layer.fileSystem, 'large', 7))
    await layer.close()
    index.close()
    await until
  })

  test('hold no directory open if nobody has the image any more', () => {
    const { root, index } = withFlatPath()
    const flat = join(root, 'nix/store/flat')
    index.tableInSteps(0).next()
    assert.deepEqual(openBelow(flat), [flat])
    index.close()
    assert.deepEqual(openBelow(root), [])
  })

  test('are looked at in pieces also if there is no room for all that are in use', async () => {
    const sizes = { a: count, b: count, c: count }
    const { layer } = open(sizes, { cache: createPathCache(count) })
    const { fileSystem: system } = layer
    for (const path of [...Object.keys(sizes), ...Object.keys(sizes)]) {
      const look = () => void target(system, path, 7)
      await beingLookedAt(look)
      // The call that waits for it is the first to use it.
      look()
    }
    await layer.close()
  })

  test('are kept for a call that needs two of them while others use a third', async () => {
    const { layer } = open({ a: count, b: count, c: count }, { cache: createPathCache(count) })
    const { fileSystem: system } = layer
    const look = (path: string) => () => void target(system, path, 7)
    const both = () => ['a', 'b'].map((path) => target(system, path, 7).toString())
    await beingLookedAt(both)
    await beingLookedAt(both)
    await beingLookedAt(look('c'))
    look('c')()
    await beingLookedAt(both)
    assert.deepEqual(both(), ['target-7', 'target-7'])
    await layer.close()
  })
})

suite('very many files outside the store paths', () => {
  const prepared = () => {
    const root = makeTree({ many: count })
    const image = { id: root, outside: join(root, 'nix'), storePaths: [] }
    const indexes = createImageIndexes()
    return { root, image, indexes, first: indexes.prepare(image) ?? assert.fail() }
  }

  test('are looked at in pieces before an image is opened, once for all that ask', async () => {
    const { root, image, indexes, first } = prepared()
    assert.equal(indexes.prepare(image), first)
    const turns = await turnsOf(first, () => {})
    assert.ok(turns > 20, String(turns))
    assert.equal(indexes.prepare(image), undefined)
    // They are not looked at again.
    rmSync(root, { recursive: true })
    using index = opened(indexes.open(image))
    assert.equal(index.tableOf(outside).entries.node.length, 2 + count + 100)
  })

  test('are looked at again if nobody has opened the image meanwhile', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    try {
      const { image, indexes, first } = prepared()
      await first
      mock.timers.tick(14_999)
      assert.equal(indexes.prepare(image), undefined)
      mock.timers.tick(1)
      await (indexes.prepare(image) ?? assert.fail())
    } finally {
      mock.timers.reset()
    }
  })

  test('are an error if they cannot be looked at, and then are looked at anew', async () => {
    const { root, image, indexes, first } = prepared()
    rmSync(root, { recursive: true })
    await assert.rejects(first, { code: 'ENOENT' })
    assert.throws(() => indexes.prepare(image), { code: 'ENOENT' })
  })

  test('are no reason to wait if somebody has the image open', () => {
    const { image, indexes } = prepared()
    using index = opened(indexes.open(image))
    assert.ok(index)
    assert.equal(indexes.prepare(image), undefined)
  })
})

test('a machine whose call needs the files of a large store path gets its answer when they are known', async () => {
  // Calls take turns of three milliseconds, in which they must get further than to look at the clock.
  step = 0.5
  const { layer } = open({ large: count })
  const machine = {
    name: 'pi',
    exports: [{ path: '/pi', layer: 'pi', fileSystem: layer.fileSystem }],
  }
  const errors: string[] = []
  const server = await startNfsServer({
    ...{ address: '127.0.0.1', ports: { nfs: 0 }, machineOf: () => machine, handleKey },
    ...{ report: () => {}, onError: (error) => errors.push(error.message) },
  })
  try {
    using client = await connectNfs(server.ports.nfs)
    using other = await connectNfs(server.ports.nfs)
    const { handle: root } = await client.mount('/pi')
    const top = await client.find(root, 'nix', 'store', 'large')
    let isAnswered = false
    const inside = client.find(top, '7', 'file-7').finally(() => void (isAnswered = true))
    let calls = 0
    for (; !isAnswered && calls < 10_000; calls++) await other.attributes(root)
    assert.ok(calls > 10, String(calls))
    assert.equal((await client.attributes(await inside)).type, 5)
    assert.deepEqual(errors, [])
  } finally {
    step = 1
    await server.close()
    await layer.close()
  }
})
