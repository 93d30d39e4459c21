// A layer takes no more of the disk than its limit, and always lets go of what it has.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import fc from 'fast-check'
import { errnoOf } from '../../src/errors.ts'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { openLayer, openMachineLayerNow } from './support/open-layer.ts'
import { measureContents } from '../../src/roots/store.ts'
import { freshNames } from '../support/temporary.ts'
import { applyToLayer, operationOf, writeImageTree } from './support/layer-operations.ts'
import { find, firstSystem, makeImage, put, untilDone } from './support/stored-layers.ts'
import { createIndex, readImageIndex } from './support/tree-index.ts'

/** In memory: there a file has exactly the blocks of its data, and no others. */
const memory = mkdtempSync('/dev/shm/netimage-test-')
after(() => rmSync(memory, { recursive: true }))
const freshName = freshNames(memory)
const megabyte = 2 ** 20
const most = 32 * megabyte
const full = { code: 'ENOSPC' }

/** A layer with a limit over an image that has a large file and this many small ones. */
function open(limit = most, small = 0) {
  const [tree, directory] = [freshName(), freshName()]
  for (const each of [tree, directory]) mkdirSync(each)
  writeFileSync(join(tree, 'large'), Buffer.alloc(most - 4 * megabyte, 'large'))
  for (let count = 0; count < small; count++) writeFileSync(join(tree, `small-${count}`), 'xy')
  const index = createIndex('tree', tree)
  const again = (most = limit) => openLayer(directory, index, { most })
  const layer = again()
  const system = layer.fileSystem
  const files = Array.from({ length: small }, (_, count) => find(system, `small-${count}`) ?? 0)
  return { layer, system, directory, again, files }
}

/** Whether the layer was full, and the step was not done. */
function isRefused(step: () => void): boolean {
  try {
    step()
    return false
  } catch (error) {
    assert.equal(errnoOf(error), 'ENOSPC')
    return true
  }
}

/** @returns how many steps were done until the layer was full */
function fill(step: (count: number) => void): number {
  let count = 0
  while (!isRefused(() => step(count))) count++
  return count
}

/** As `fill`. A server also waits after a step if the log of the layer is long. Then the log is emptied. */
async function fillInTurns(
  step: (count: number) => void,
  stable: () => Promise<void>,
): Promise<number> {
  let count = 0
  for (; !isRefused(() => step(count)); count++) await stable()
  return count
}

const name = (count: number) => Buffer.from(`${'name'.repeat(50)}-${count}`)
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

suite('the limit of a layer', () => {
  test('counts what the server has taken for the machine elsewhere', async () => {
    const [tree, directory] = [freshName(), freshName()]
    for (const each of [tree, directory]) mkdirSync(each)
    let elsewhere = 0
    const layer = openLayer(directory, createIndex('tree', tree), {
      most,
      takenElsewhere: () => elsewhere,
    })
    try {
      const { fileSystem } = layer
      const { total, available } = fileSystem.space()
      elsewhere = most / 2
      assert.deepEqual(fileSystem.space().total, total)
      assert.equal(fileSystem.space().available, available - elsewhere)
      const written = fill((count) => {
        put(fileSystem, `file-${count}`, 'x'.repeat(megabyte))
      })
      assert.ok(written > 0 && written < most / 2 / megabyte, String(written))
    } finally {
      await layer.close()
    }
  })

  for (const reset of [undefined, 'at-another-boot'] as const) {
    test(`counts it in the layer of a machine of the site, with reset: ${reset}`, async () => {
      const [state, image] = [freshName(), makeImage(freshName())]
      const index = readImageIndex(image, join(image, 'net-image/pi'))
      const elsewhere = most / 2
      const available = async (takenElsewhere: () => number) => {
        const known = { directory: image, name: 'pi', toplevel: firstSystem }
        const request = { state, machine: '10.0.0.7', image: known, index, most, boot: '1', reset }
        const layer = openMachineLayerNow({ ...request, takenElsewhere })
        const space = layer.fileSystem.space()
        await layer.close()
        return space.available
      }
      // The first opening makes the layer.
      await available(() => 0)
      const all = await available(() => 0)
      assert.equal(await available(() => elsewhere), all - elsewhere)
    })
  }

  test('knows what the layer takes on the disk after any operations', async () => {
    const image = freshName()
    writeImageTree(image)
    const index = createIndex('image', image)
    const number = fc.nat(0xffff_ffff)
    const step = fc.record({ undone: fc.option(number), done: number, again: fc.nat(40) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 150, size: 'max' }), async (steps) => {
        const directory = freshName()
        mkdirSync(directory)
        let layer = openLayer(directory, index, { most: 2 ** 30 })
        const check = () => {
          const { total, free } = layer.fileSystem.space()
          assert.equal(total, 2 ** 30)
          assert.equal(total - free, measureContents(directory).bytes)
        }
        for (const { undone, done, again } of steps) {
          if (undone !== null) undo(layer.fileSystem, undone)
          applyToLayer(layer.fileSystem, operationOf(done))
          if (again > 0) continue
          await layer.fileSystem.stable()
          check()
          await layer.close()
          layer = openLayer(directory, index, { most: 2 ** 30 })
          check()
        }
        await layer.fileSystem.stable()
        check()
        await layer.close()
        rmSync(directory, { recursive: true })
      }),
      { numRuns: 20 },
    )
  })

  test('refuses data that does not fit, lets data be overwritten, and gives room back', async () => {
    const { layer, system, directory } = open()
    const log = put(system, 'log', 'x')
    const chunk = Buffer.alloc(100_000, 'log')
    const chunks = fill((count) => system.write(log, count * chunk.length, chunk))
    assert.ok(chunks > 200, String(chunks))
    assert.ok(measureContents(directory).bytes <= most)
    assert.ok(system.space().available < 2 * chunk.length)
    // The same blocks again; but not the first byte after them.
    for (let count = 0; count < chunks; count++) {
      system.write(log, count * chunk.length, Buffer.alloc(chunk.length, 'LOG'))
      // A server waits for this when the log of the layer is long. Then the log is emptied.
      await system.stable()
    }
    const { size } = system.attributes(log)
    assert.throws(() => system.write(log, size - 1, Buffer.alloc(9000)), full)
    const first = Buffer.alloc(3)
    system.read(log, 0, first)
    assert.equal(first.toString(), 'LOG')
    await system.commit(log)
    assert.ok(measureContents(directory).bytes <= most + megabyte / 4)

    system.setAttributes(log, { size: size - 10 * chunk.length })
    await system.stable()
    assert.ok(fill((count) => system.write(log, size + count * chunk.length, chunk)) > 5)
    system.remove(system.root, Buffer.from('log'))
    await system.stable()
    assert.ok(system.space().available > most - 8 * megabyte)
    await layer.close()
  })

  test('counts only the blocks of a file with holes, and refuses to fill the holes', async () => {
    const { layer, system, again } = open()
    const sparse = put(system, 'sparse', 'x')
    const before = system.space().free
    system.setAttributes(sparse, { size: 1000 * megabyte })
    system.write(sparse, 999 * megabyte, Buffer.from('end'))
    assert.ok(before - system.space().free < 64 * 1024)
    const chunk = Buffer.alloc(megabyte, 'x')
    assert.ok(fill((count) => system.write(sparse, count * megabyte, chunk)) < 32)
    // Blocks that are there can be overwritten, although the file has holes.
    system.write(sparse, 0, Buffer.alloc(megabyte, 'y'))
    system.write(sparse, 999 * megabyte, Buffer.from('END'))
    assert.throws(() => system.write(sparse, 500 * megabyte, chunk), full)
    await layer.close()
    const later = again()
    assert.throws(() => later.fileSystem.write(sparse, 500 * megabyte, chunk), full)
    await later.close()
  })

  test('counts names, and gives their room to other names', async () => {
    const { layer, system, directory } = open(6.5 * megabyte)
    const make = (count: number) => void system.create(system.root, name(count), file)
    const made = await fillInTurns(make, () => system.stable())
    assert.ok(made > 500, String(made))
    assert.ok(measureContents(directory).bytes < 7 * megabyte)
    for (let count = 0; count < made; count++) {
      system.remove(system.root, name(count))
      await system.stable()
    }
    const more = await fillInTurns(
      (count) => make(made + count),
      () => system.stable(),
    )
    assert.ok(more > made / 2)
    assert.ok(measureContents(directory).bytes < 7 * megabyte)
    await layer.close()
  })

  for (const size of [1, 0]) {
    test(`counts the block and the row of each file of the image that is cut to ${size} bytes`, async () => {
      const { layer, system, directory, files } = open(most, 1500)
      const log = put(system, 'log', 'x')
      const chunk = Buffer.alloc(100_000, 'log')
      fill((count) => system.write(log, count * chunk.length, chunk))
      const cut = fill((count) => system.setAttributes(files[count] ?? 0, { size }))
      assert.ok(cut < files.length / 2, String(cut))
      await system.stable()
      assert.ok(measureContents(directory).bytes <= most + megabyte / 4)
      // The files of the image are as before. The machine's own file can be cut.
      assert.equal(system.attributes(files.at(-1) ?? 0).size, 2)
      system.setAttributes(log, { size: 1 })
      await layer.close()
    })
  }

  test('counts the copy of a large file of the image while it is made, and refuses it', async () => {
    const { layer, system, directory } = open()
    const large = find(system, 'large') ?? 0
    const write = () => system.write(large, 0, Buffer.from('x'))
    put(system, 'ballast', 'x'.repeat(8 * megabyte))
    assert.throws(write, full)
    system.remove(system.root, Buffer.from('ballast'))
    await system.stable()
    let least = most
    const turns = await untilDone(() => {
      least = Math.min(least, system.space().free)
      write()
    })
    // It was copied, not cloned, and what was copied so far was counted.
    assert.ok(turns > 0 && least < most / 2, `${turns} turns, ${least} bytes free`)
    assert.ok(measureContents(directory).bytes <= most)
    await layer.close()
  })

  test('that is lowered below what the layer has still lets the machine read and remove', async () => {
    const { layer, system, again } = open()
    put(system, 'data', 'x'.repeat(20 * megabyte))
    put(system, 'more', 'x')
    await layer.close()
    const lowered = again(16 * megabyte)
    const { fileSystem } = lowered
    const { total, free, available } = fileSystem.space()
    assert.deepEqual([total, free, available], [16 * megabyte, 0, 0])
    assert.throws(() => put(fileSystem, 'new', 'x'), full)
    put(fileSystem, 'more', 'y')
    fileSystem.setAttributes(find(fileSystem, 'data') ?? 0, { size: 0, mode: 0o600 })
    await fileSystem.stable()
    put(fileSystem, 'new', 'x')
    await lowered.close()
  })

  test('that is more than the disk has promises no more than the disk has', async () => {
    const { layer, system } = open(2 ** 50)
    assert.ok(system.space().total < 2 ** 50)
    await layer.close()
  })
})

class Undone extends Error {}

/** An operation that is undone changes nothing. Data that was written stays, so none is written. */
function undo(system: FileSystem, number: number): void {
  const operation = operationOf(number)
  if (operation.kind === 'write') return
  const whole = () =>
    system.together(() => {
      applyToLayer(system, operation)
      throw new Undone()
    })
  assert.throws(whole, Undone)
}
