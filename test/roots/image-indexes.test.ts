// Indexes over several images: the store paths are in a directory of their own, and the images share
// them.

import assert from 'node:assert/strict'
import fs, { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import {
  createImageIndexes,
  outside,
  type ImageIndex,
  type ImageIndexes,
  type IndexSettings,
} from '../../src/roots/image-index.ts'
import { countNodes } from '../../src/roots/image-table.ts'
import type { LayerImage } from '../../src/roots/layer-image.ts'
import { rootNode } from '../../src/roots/numbers.ts'
import type { RootImage } from '../../src/roots/root-image.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { numbered } from './support/numbered.ts'
import { openBelow } from './support/open-below.ts'

let directoriesRead: string[] = []
const { readdirSync: readDirectory } = fs
mock.method(fs, 'readdirSync', (...given: Parameters<typeof readDirectory>) => {
  directoriesRead.push(String(given[0]))
  return readDirectory(...given)
})
syncBuiltinESMExports()

const freshName = freshNames(temporaryDirectory())

/** Images whose store paths are in one directory, by names that are not those in /nix/store. */
function makeSite(settings: IndexSettings = {}) {
  const site = freshName()
  const image = (id: string, ...names: string[]): RootImage => {
    const root = join(site, 'images', id)
    mkdirSync(join(root, 'nix/store'), { recursive: true })
    writeFileSync(join(root, 'of'), id)
    const storePaths = names.map((name) => {
      const [base = ''] = name.split('#')
      const at = join(site, 'store', `${name}-at`)
      if (!fs.existsSync(at)) {
        mkdirSync(join(at, 'bin'), { recursive: true })
        writeFileSync(join(at, 'bin/run'), `run ${name}`)
      }
      return { name: base, narHash: `sha256:${name}`, at }
    })
    return { id, outside: root, storePaths }
  }
  return { site, image, indexes: createImageIndexes(settings) }
}

function look(image: LayerImage, path: string) {
  let node: number | undefined = rootNode
  for (const name of path.split('/')) node = node && image.child(node, Buffer.from(name))
  return node === undefined ? undefined : image.node(node)
}

function textAt(index: ImageIndex, path: string): string | undefined {
  const image = numbered(index)
  const node = look(image, path)
  if (!node) return undefined
  const file = image.open(node)
  const text = fs.readFileSync(file, 'utf8')
  fs.closeSync(file)
  return text
}

function namesInStore(indexes: ImageIndexes, ...[bound, ...kept]: [RootImage, ...RootImage[]]) {
  const index = indexes.open(bound, kept)
  const image = numbered(index)
  const names: string[] = []
  for (let place = 0; ; place++) {
    const child = image.childAt(image.store ?? 0, place)
    if (!child) break
    names.push(child.name.toString())
  }
  const links = image.node(image.store ?? 0)?.links
  index.close()
  return { names, links }
}

suite('indexes over several images', () => {
  test('show the files outside of one image, and the store paths of all', () => {
    const { indexes, image } = makeSite()
    const [one, other] = [image('one', 'a', 'b#1'), image('other', 'b#2', 'c')]
    assert.deepEqual(namesInStore(indexes, one, other), { names: ['a', 'b', 'c'], links: 5 })
    assert.deepEqual(namesInStore(indexes, other), { names: ['b', 'c'], links: 4 })
    const index = indexes.open(other, [one])
    const path = (name: string) => textAt(index, `nix/store/${name}/bin/run`)
    assert.equal(textAt(index, 'of'), 'other')
    // The bound image's path comes before the other's with the same name.
    assert.deepEqual(['a', 'b', 'c', 'd'].map(path), ['run a', 'run b#2', 'run c', undefined])
    index.close()
  })

  // The garbage collection of a site may remove a store path that no index has, and an image may bring
  // it again.
  test('know nothing of a store path after the last index that has it was closed', () => {
    const { site, indexes, image } = makeSite()
    const others = indexes.open(image('others', 'b'))
    const run = () => {
      const index = indexes.open(image('one', 'a', 'b'))
      try {
        return ['a', 'b'].map((name) => textAt(index, `nix/store/${name}/bin/run`))
      } finally {
        index.close()
      }
    }
    const first = run()
    const [store, removed] = [join(site, 'store'), join(site, 'removed')]
    // Another inode.
    renameSync(join(store, 'a-at'), removed)
    assert.deepEqual(run(), first)
    // Other contents, so that anything that is remembered is wrong.
    fs.rmSync(join(store, 'a-at'), { recursive: true })
    writeFileSync(join(store, 'a-at'), 'a file')
    const index = indexes.open(image('one', 'a', 'b'))
    assert.equal(textAt(index, 'nix/store/a'), 'a file')
    index.close()
    others.close()
  })

  test('look into a store path once for all images, and are one if the images are the same', () => {
    const { site, indexes, image } = makeSite()
    const [one, other, third] = [image('1', 'a', 'b'), image('2', 'a', 'b'), image('3', 'c')]
    const first = indexes.open(one, [other, third])
    const second = indexes.open(other)
    assert.equal(countNodes(first.tableOf(0)), 3)
    directoriesRead = []
    assert.equal(second.tableOf(0), first.tableOf(0))
    const again = indexes.open(one, [third, one, other])
    assert.equal(again.storePaths, first.storePaths)
    assert.equal(again.tableOf(outside), first.tableOf(outside))
    assert.deepEqual(directoriesRead, [])
    for (const index of [first, second, again, again]) index.close()
    assert.deepEqual(openBelow(site), [])
  })

  test('find a store path that comes into the directory later, and name one that is missing', () => {
    const { site, indexes, image } = makeSite()
    const first = indexes.open(image('1', 'a'))
    const second = indexes.open(image('2', 'a', 'later'))
    assert.equal(textAt(second, 'nix/store/later/bin/run'), 'run later')
    const third = image('3', 'a', 'gone')
    const file = join(site, 'store/gone-at')
    renameSync(file, `${file}-away`)
    assert.throws(() => indexes.open(third), netimageError('image-damaged', { file }))
    for (const index of [first, second]) index.close()
    assert.deepEqual(openBelow(site), [])
  })

  test('do not open a file through a link that got the name of a directory above it', () => {
    const { site, indexes, image } = makeSite()
    const index = indexes.open(image('1', 'a'))
    assert.equal(textAt(index, 'nix/store/a/bin/run'), 'run a')
    const path = join(site, 'store/a-at')
    renameSync(path, join(site, 'away'))
    symlinkSync('../away', path)
    const file = join(path, 'bin/run')
    assert.throws(
      () => textAt(index, 'nix/store/a/bin/run'),
      netimageError('image-damaged', { file }),
    )
    index.close()
  })

  test('open a file once for all machines, and see after some seconds that it has changed', () => {
    let time = 0
    const { site, indexes, image } = makeSite({ now: () => time })
    const bound = image('one', 'a')
    const all = [indexes.open(bound), indexes.open(bound)]
    const readFrom = (index: ImageIndex, path: string) => {
      const layerImage = numbered(index)
      const node = look(layerImage, path)
      const into = Buffer.alloc(5)
      fs.readSync(node ? layerImage.openForAll(node) : -1, into, 0, 5, 0)
      return into.toString()
    }
    const readAll = () => all.map((index) => readFrom(index, 'nix/store/a/bin/run'))
    const files = () => openBelow(site).filter((path) => path.includes('/run'))
    assert.deepEqual(readAll(), ['run a', 'run a'])
    assert.equal(files().length, 1)
    const run = join(site, 'store/a-at/bin/run')
    fs.rmSync(run)
    writeFileSync(run, 'other')
    assert.deepEqual(readAll(), ['run a', 'run a'])
    time = 10_000
    assert.throws(readAll, netimageError('image-damaged'))
    assert.deepEqual(files(), [])
    const other = indexes.open(image('other', 'b'))
    assert.equal(readFrom(other, 'nix/store/b/bin/run'), 'run b')
    assert.equal(files().length, 1)
    other.close()
    assert.deepEqual(files(), [])
    for (const index of all) index.close()
    assert.deepEqual(openBelow(site), [])
  })
})
