// A layer of the version with format 1: the machine sees what it saw before.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ImageTable } from '../../src/roots/image-table.ts'
import { openMachineLayer } from '../../src/roots/store.ts'
import { readRecord } from '../../src/roots/record.ts'
import { restoreSnapshot, takeSnapshot } from '../../src/roots/snapshots.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import {
  assertSame,
  contentsOf,
  oldIndex,
  oldLayers,
  oldMachine,
  oldRequest,
  writeOldLayer,
  type OldLayer,
} from './support/old-layer.ts'
import { find, put, read } from './support/stored-layers.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const freshName = freshNames(temporaryDirectory())

function fresh(name: string): OldLayer {
  return writeOldLayer(name, { state: freshName(), tree: freshName() })
}

suite('a layer of format 1', () => {
  for (const name of oldLayers) {
    test(`${name} shows the same as before`, () => assertSame(name, fresh(name)))
  }

  test('gets other contents, whose handles are others, and the old ones are removed', async () => {
    const old = fresh('script')
    const { state, tree, directory } = old
    const before = contentsOf(old)
    const index = oldIndex(tree)
    const layer = openMachineLayer(oldRequest(state, index))
    assert.notEqual(contentsOf(old), before)
    assert.equal(join(directory, layer.name), contentsOf(old))
    put(layer.fileSystem, 'etc/new', 'new')
    while (existsSync(before)) await new Promise((resolve) => setImmediate(resolve))
    await layer.close()
    const again = openMachineLayer(oldRequest(state, index))
    assert.equal(again.name, layer.name)
    assert.equal(read(again.fileSystem, 'etc/new'), 'new')
    await again.close()
  })

  test('is compared with one walk over the image, which no layer needs afterwards', async () => {
    const { state, tree } = fresh('script')
    const index = oldIndex(tree)
    const walks: WeakRef<ImageTable>[] = []
    const walkWhole = () => {
      const table = index.walkWhole()
      walks.push(new WeakRef(table))
      return table
    }
    const layer = openMachineLayer(oldRequest(state, { ...index, walkWhole }))
    // A table can only be collected in a later turn.
    await new Promise((resolve) => setImmediate(resolve))
    collectGarbage()
    assert.deepEqual(
      walks.map((table) => table.deref()),
      [undefined],
    )
    assert.ok(find(layer.fileSystem, 'etc'))
    await layer.close()
    index.close()
  })

  test('is left as it is over an image that has changed', () => {
    const old = fresh('script')
    const { state, tree, directory } = old
    const before = contentsOf(old)
    writeFileSync(join(tree, 'etc/another'), '')
    const open = () => openMachineLayer(oldRequest(state, oldIndex(tree)))
    assert.throws(open, netimageError('bad-state', { file: before }))
    assert.equal(contentsOf(old), before)
    assert.deepEqual(
      readdirSync(directory).filter((each) => /^[0-9a-f]{32}$/.test(each)),
      [readRecord(directory)?.name],
    )
  })

  test('can be saved before it is migrated, and restored afterwards', async () => {
    const setting = fresh('random-1')
    const { state, tree, directory } = setting
    const image = directory.slice(directory.lastIndexOf('/') + 1)
    const stored = { machine: oldMachine, image, directory, lock: `${directory}.lock` }
    await takeSnapshot(stored, 'before')
    const index = oldIndex(tree)
    const layer = openMachineLayer(oldRequest(state, index))
    put(layer.fileSystem, 'etc/later', 'later')
    await layer.close()
    await restoreSnapshot(stored, 'before', assert.fail)
    await assertSame('random-1', setting)
  })
})
