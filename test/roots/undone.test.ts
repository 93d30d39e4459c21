// An operation that is undone leaves nothing behind that could disturb later operations.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { openLayer } from './support/open-layer.ts'
import { verifyLayer } from '../../src/roots/verify.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import {
  applyToDirectory,
  applyToLayer,
  changesData,
  fileAt,
  operationOf,
  pathText,
  treeOfDirectory,
  treeOfLayer,
  writeImageTree,
  type Operation,
} from './support/layer-operations.ts'
import { find, read } from './support/stored-layers.ts'
import { createIndex } from './support/tree-index.ts'

process.umask(0)
const freshName = freshNames(temporaryDirectory())
const image = freshName()
writeImageTree(image)
const index = createIndex('image', image)

class Undone extends Error {}

function undo(layer: FileSystem, act: () => void): void {
  const undone = new Undone()
  const whole = () =>
    layer.together(() => {
      act()
      throw undone
    })
  assert.throws(whole, undone)
}

const number = fc.nat(0xffff_ffff)
const step = fc.record({ undone: fc.array(number, { maxLength: 4 }), done: number })

test('operations that are undone together have no effect', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120, size: 'max' }), async (steps) => {
      const [local, directory] = [freshName(), freshName()]
      execFileSync('cp', ['-a', image, local])
      mkdirSync(directory)
      let layer = openLayer(directory, index)
      /** Files with data of their own. Writes to them are not undone. */
      const written = new Set<number>()
      for (const { undone, done } of steps) {
        undo(layer.fileSystem, () => {
          for (const operation of undone.map(operationOf)) {
            if (!isForGood(layer.fileSystem, operation, written)) {
              applyToLayer(layer.fileSystem, operation)
            }
          }
        })
        const operation = operationOf(done)
        const outcome = applyToLayer(layer.fileSystem, operation)
        assert.equal(outcome, applyToDirectory(local, operation))
        if (outcome === 'done' && changesData(operation)) {
          const file = fileAt(layer.fileSystem, pathText(operation.path))
          written.add(file)
          await layer.fileSystem.commit(file)
        }
      }
      assert.deepEqual(treeOfLayer(layer.fileSystem), treeOfDirectory(local))
      await layer.close()
      assert.deepEqual(verifyLayer(directory, index).problems, [])
      layer = openLayer(directory, index)
      assert.deepEqual(treeOfLayer(layer.fileSystem), treeOfDirectory(local))
      await layer.close()
    }),
    { numRuns: 15 },
  )
})

function isForGood(layer: FileSystem, operation: Operation, written: ReadonlySet<number>): boolean {
  if (!changesData(operation)) return false
  try {
    return written.has(fileAt(layer, pathText(operation.path)))
  } catch {
    return false
  }
}

test('a file of the image is whole after a first write to it was undone', async () => {
  const directory = freshName()
  mkdirSync(directory)
  const text = () => {
    const bytes = Buffer.alloc(100)
    return bytes.toString('latin1', 0, layer.fileSystem.read(file, 0, bytes))
  }
  let layer = openLayer(directory, index)
  const file = fileAt(layer.fileSystem, '/a/a')
  undo(layer.fileSystem, () => layer.fileSystem.write(file, 0, Buffer.from('undone')))
  assert.equal(text(), 'two names\n')
  layer.fileSystem.write(file, 4, Buffer.from('NAMES'))
  assert.equal(text(), 'two NAMES\n')
  await layer.fileSystem.commit(file)
  await layer.close()
  layer = openLayer(directory, index)
  assert.equal(text(), 'two NAMES\n')
  await layer.close()
})

test('a file whose truncation was answered is cut off, even if the server was killed in between', async () => {
  const [directory, tree] = [freshName(), freshName()]
  for (const each of [directory, tree]) mkdirSync(each)
  const program = join(import.meta.dirname, 'support/killed-cut-program.ts')
  const child = spawn(process.execPath, [program, directory, tree], { stdio: 'inherit' })
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
  const over = createIndex('tree', tree)
  let layer = openLayer(directory, over)
  assert.equal(layer.fileSystem.recallReply(Buffer.from('request'))?.toString(), 'reply')
  assert.equal(read(layer.fileSystem, 'file'), 'text')
  await layer.fileSystem.stable()
  // What is written later stays.
  const file = find(layer.fileSystem, 'file') ?? 0
  layer.fileSystem.write(file, 4, Buffer.from(' again'))
  await layer.fileSystem.commit(file)
  await layer.close()
  layer = openLayer(directory, over)
  assert.equal(read(layer.fileSystem, 'file'), 'text again')
  await layer.close()
})
