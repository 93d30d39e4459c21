// The first write to a large file of the image copies the file; the server serves others meanwhile.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, mock, suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createCopies } from '../../src/roots/copies.ts'
import { openLayer } from './support/open-layer.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { find, put, read, untilDone } from './support/stored-layers.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())
/** On another file system than the layers, so that files cannot be cloned. */
const images = mkdtempSync('/dev/shm/netimage-test-')
const freshImage = freshNames(images)
after(() => rmSync(images, { recursive: true }))
const megabyte = 2 ** 20
const bytes = 8 * megabyte

/** A layer over an image that has these large files. */
function open(...names: string[]) {
  const [tree, directory] = [freshImage(), freshName()]
  for (const each of [tree, directory]) mkdirSync(each)
  for (const name of names) writeFileSync(join(tree, name), randomFillSync(Buffer.alloc(bytes)))
  writeFileSync(join(tree, 'small'), 'small')
  const index = createIndex('tree', tree)
  const layer = openLayer(directory, index)
  const node = (name: string) => find(layer.fileSystem, name) ?? 0
  const data = join(directory, 'data')
  return { layer, system: layer.fileSystem, tree, directory, data, node, index }
}

function digest(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

suite('a large file of the image', () => {
  test('is copied while others are served, and changes only when the copy is finished', async () => {
    const { layer, system, tree, directory, node, index } = open('large')
    const large = node('large')
    const before = system.attributes(large)
    const write = () => system.write(large, megabyte, Buffer.from('changed'), 0o600)
    assert.throws(write, { code: 'EAGAIN' })
    assert.deepEqual(system.attributes(large), before)
    put(system, 'small', 'S')
    assert.equal(read(system, 'small'), 'Small')
    assert.ok((await untilDone(write)) > 10)
    await system.commit(large)
    const expected = readFileSync(join(tree, 'large'))
    expected.write('changed', megabyte)
    const content = Buffer.alloc(bytes)
    const check = (opened: typeof layer) => {
      opened.fileSystem.read(large, 0, content)
      assert.equal(digest(content), digest(expected))
      assert.equal(opened.fileSystem.attributes(large).mode, 0o600)
    }
    check(layer)
    await layer.close()
    const later = openLayer(directory, index)
    check(later)
    await later.close()
  })

  test('is copied only as far as it is needed', async () => {
    const { layer, system, tree, data, node } = open('large')
    const large = node('large')
    let most = 0
    const turns = await untilDone(() => {
      for (const name of readdirSync(data)) {
        most = Math.max(most, lstatSync(join(data, name), { throwIfNoEntry: false })?.size ?? 0)
      }
      system.setAttributes(large, { size: 2 * megabyte })
    })
    assert.ok(turns > 0)
    assert.ok(most <= 2 * megabyte, String(most))
    const content = Buffer.alloc(bytes)
    assert.equal(system.read(large, 0, content), 2 * megabyte)
    const expected = readFileSync(join(tree, 'large')).subarray(0, 2 * megabyte)
    assert.equal(digest(content.subarray(0, 2 * megabyte)), digest(expected))
    // Truncated to nothing: no byte of the image is needed.
    const { layer: other, system: emptied, node: find } = open('large')
    emptied.setAttributes(find('large'), { size: 0 })
    assert.equal(emptied.attributes(find('large')).size, 0)
    for (const each of [layer, other]) await each.close()
  })

  test('is copied with few others at a time', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    const { layer, system, node } = open(...names)
    let most = 0
    const waiting = new Set(names)
    await untilDone(() => {
      const running = process.getActiveResourcesInfo().filter((kind) => kind.startsWith('FSReq'))
      most = Math.max(most, running.length)
      let refusal: Error | undefined
      for (const name of waiting) {
        try {
          system.write(node(name), 0, Buffer.from(name))
          waiting.delete(name)
        } catch (error) {
          assert.ok(error instanceof Error)
          refusal = error
        }
      }
      if (refusal) throw refusal
    })
    assert.ok(most === 1 || most === 2, String(most))
    for (const name of names) {
      const first = Buffer.alloc(1)
      system.read(node(name), 0, first)
      assert.equal(first.toString(), name)
    }
    await layer.close()
  })

  test('leaves no copy if the machine does not ask again, or removes or truncates the file', async () => {
    const { layer, system, data, node } = open('a', 'b')
    for (const name of ['a', 'b']) {
      const write = () => system.write(node(name), 0, Buffer.from(name))
      assert.throws(write, { code: 'EAGAIN' })
    }
    system.remove(system.root, Buffer.from('a'))
    await layer.close()
    assert.deepEqual(readdirSync(data), [])
  })

  test('is as in the image if the server is killed while it copies the file', async () => {
    const { layer, tree, directory, data, index } = open('large')
    await layer.close()
    const program = join(import.meta.dirname, 'support/killed-copy-program.ts')
    const child = spawn(process.execPath, [program, directory, tree], { stdio: 'inherit' })
    assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
    assert.equal(readdirSync(data).length, 1)
    const later = openLayer(directory, index)
    assert.deepEqual(readdirSync(data), [])
    const content = Buffer.alloc(bytes)
    later.fileSystem.read(find(later.fileSystem, 'large') ?? 0, 0, content)
    assert.equal(digest(content), digest(readFileSync(join(tree, 'large'))))
    await later.close()
  })

  test('leaves no copy if the machine has not asked again for minutes', async () => {
    const [folder, image] = [freshName(), freshImage()]
    mkdirSync(folder)
    writeFileSync(image, Buffer.alloc(bytes))
    mock.timers.enable({ apis: ['setTimeout'] })
    try {
      const copies = createCopies(folder, { take: () => {} })
      const take = () => copies.take(1, () => openSync(image, 'r'), bytes)
      assert.throws(take, { code: 'EAGAIN' })
      const isKept = () =>
        lstatSync(join(folder, 'copy-1'), { throwIfNoEntry: false })?.size === bytes
      await waitUntil('the copy has all bytes', isKept)
      // The end of the copy is a few turns after its last byte.
      while (copies.has(1)) {
        mock.timers.tick(1000)
        await nextTurn()
      }
      await copies.close()
      assert.deepEqual(readdirSync(folder), [])
    } finally {
      mock.timers.reset()
    }
  })

  test('is copied as far as the last call needs it, if that comes before its turn', async () => {
    const [folder, image] = [freshName(), freshImage()]
    mkdirSync(folder)
    writeFileSync(image, randomFillSync(Buffer.alloc(bytes)))
    const copies = createCopies(folder, { take: () => {} })
    let opened = 0
    const openImage = () => (opened++, openSync(image, 'r'))
    const take = (node: number, needed: number) => () => copies.take(node, openImage, needed)
    for (const node of [1, 2]) assert.throws(take(node, bytes), { code: 'EAGAIN' })
    for (let needed = 2 * megabyte; needed <= bytes; needed += megabyte) {
      assert.throws(take(3, needed), { code: 'EAGAIN' })
    }
    let path = ''
    await untilDone(() => (path = take(3, bytes)()))
    assert.equal(opened, 3)
    assert.equal(digest(readFileSync(path)), digest(readFileSync(image)))
    await copies.close()
  })

  test('is copied even if many other copies failed and were not asked for again', async () => {
    const folder = freshName()
    mkdirSync(folder)
    const copies = createCopies(folder, { take: () => {} })
    const full = () => {
      throw new Error('ENOSPC: no space left on device')
    }
    const take = (node: number) => () => copies.take(node, full, bytes)
    for (let node = 1; node <= 100; node++) {
      assert.throws(take(node), { code: 'EAGAIN' })
      assert.ok(copies.has(node), `the copy of node ${node} is not begun`)
      await nextTurn()
    }
    // A machine that asks again in time gets the error.
    assert.throws(take(100), { code: 'EIO' })
    await copies.close()
  })
})
