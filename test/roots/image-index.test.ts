// The index of an image agrees with the kernel, and a layer is only used with its own image.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openLayer } from './support/open-layer.ts'
import type { LayerImage } from '../../src/roots/layer-image.ts'
import { rootNode } from '../../src/roots/numbers.ts'
import { verifyLayer } from '../../src/roots/verify.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { numbered } from './support/numbered.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())

function makeTree(): string {
  const root = freshName()
  const at = (name: string) => join(root, name)
  fs.mkdirSync(at('dir/below'), { recursive: true })
  fs.writeFileSync(at('dir/file'), 'some contents\n', { mode: 0o4750 })
  fs.linkSync(at('dir/file'), at('linked'))
  fs.linkSync(at('dir/file'), at('dir/below/linked'))
  // The other name of this file is not in the tree.
  fs.writeFileSync(`${root}-outside`, 'shared')
  fs.linkSync(`${root}-outside`, at('shared'))
  fs.symlinkSync('dir/file', at('symlink'))
  fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.of(0xff, 0xfe, 0x80)]), '')
  fs.writeFileSync(at('sparse'), '')
  fs.truncateSync(at('sparse'), 10_000_000)
  for (const [name, ...device] of [
    ['fifo', 'p'],
    ['console', 'c', '5', '1'],
    ['disk', 'b', '259', '300'],
  ]) {
    execFileSync('mknod', [at(name ?? ''), ...device])
  }
  fs.lchownSync(at('linked'), 70_000, 100)
  fs.utimesSync(at('sparse'), 12.5, -7.75)
  return root
}

/** Each name below the directory, with its node. */
function* walk(image: LayerImage, directory: number): Generator<[Buffer, number]> {
  for (let place = 0; ; place++) {
    const child = image.childAt(directory, place)
    if (!child) return
    const node = image.node(child.node)
    assert.ok(node)
    assert.equal(image.child(directory, child.name), child.node)
    yield [child.name, child.node]
    if (node.kind !== 'directory') continue
    assert.equal(node.parent, directory)
    for (const [name, id] of walk(image, child.node)) {
      yield [Buffer.concat([child.name, Buffer.from('/'), name]), id]
    }
  }
}

test('the index has the same attributes for every file as the kernel', () => {
  const root = makeTree()
  const image = numbered(createIndex('image', root))
  const found = [...walk(image, rootNode)]
  const printed = execFileSync('find', [root, '-mindepth', '1', '-printf', '%P\\0'])
  const inOrder = (text: string) => text.split('\0').toSorted().join('\0')
  const foundNames = found.map(([name]) => `${name.toString('latin1')}\0`).join('')
  assert.equal(inOrder(foundNames), inOrder(printed.toString('latin1')))
  const names = Map.groupBy(found, ([, id]) => id)
  for (const [name, id] of found) {
    const node = image.node(id)
    const path = Buffer.concat([Buffer.from(`${root}/`), name])
    const stat = fs.lstatSync(path, { bigint: true })
    assert.ok(node)
    if (node.kind === 'file') {
      const file = image.open(node)
      assert.equal(fs.fstatSync(file, { bigint: true }).ino, stat.ino)
      fs.closeSync(file)
    }
    assert.equal(node.mode, Number(stat.mode & 0o7777n))
    assert.equal(node.size, Number(stat.size))
    assert.equal(node.used, Number(stat.blocks) * 512)
    const { seconds, nanoseconds } = node.modified
    assert.equal(BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds), stat.mtimeNs)
    assert.ok(nanoseconds >= 0)
    assert.deepEqual([node.uid, node.gid], [Number(stat.uid), Number(stat.gid)])
    // A name outside the tree is not counted.
    if (node.kind !== 'directory') assert.equal(node.links, names.get(id)?.length)
    else assert.equal(node.links, Number(stat.nlink))
    if (node.kind === 'symlink') assert.equal(image.readLink(node).toString(), 'dir/file')
  }
  const kindAt = (name: string) => {
    const node = image.node(image.child(rootNode, Buffer.from(name)) ?? 0)
    return [node?.kind, node?.device.major, node?.device.minor]
  }
  assert.deepEqual(kindAt('fifo'), ['fifo', 0, 0])
  assert.deepEqual(kindAt('console'), ['character', 5, 1])
  assert.deepEqual(kindAt('disk'), ['block', 259, 300])
  assert.equal(image.child(rootNode, Buffer.from('missing')), undefined)
  assert.equal(image.node(0), undefined)
  assert.equal(image.node(found.length + 2), undefined)
})

test('files of the user who made the image belong to root', () => {
  const root = makeTree()
  for (const name of ['', 'dir', 'dir/below']) fs.lchownSync(join(root, name), 1234, 1235)
  const image = numbered(createIndex('image', root))
  for (const name of ['dir', 'linked']) {
    const node = image.node(image.child(rootNode, Buffer.from(name)) ?? 0)
    assert.deepEqual([node?.uid, node?.gid], name === 'dir' ? [0, 0] : [70_000, 100])
  }
})

test('a layer is refused over another tree, but not over the same tree with other contents', async () => {
  const [root, directory] = [makeTree(), freshName()]
  fs.mkdirSync(directory)
  const layer = openLayer(directory, createIndex('image', root))
  const { fileSystem } = layer
  const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
  const made = fileSystem.create(fileSystem.root, Buffer.from('made'), file)
  await layer.close()

  fs.writeFileSync(join(root, 'linked'), 'other contents')
  await openLayer(directory, createIndex('image', root)).close()

  fs.writeFileSync(join(root, 'dir/another'), '')
  const changed = createIndex('image', root)
  const refused = netimageError('bad-state', { file: directory })
  assert.throws(() => openLayer(directory, changed), refused)
  assert.throws(() => verifyLayer(directory, changed), refused)

  fs.rmSync(join(root, 'dir/another'))
  const index = createIndex('image', root)
  const again = openLayer(directory, index)
  assert.equal(again.fileSystem.lookup(rootNode, Buffer.from('made')), made)
  await again.close()
})
