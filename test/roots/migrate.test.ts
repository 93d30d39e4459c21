// A layer of the version with format 1: the machine sees what it saw before.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { suite, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ImageTable } from '../../src/roots/image-table.ts'
import { removeTree } from '../../src/remove-tree.ts'
import { readId } from '../../src/roots/root-image.ts'
import { needRecord } from '../../src/roots/store.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { imagesOfSnapshots, restoreSnapshot, takeSnapshot } from '../../src/roots/snapshots.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import {
  assertSame,
  contentsOf,
  directoryOf,
  listingOf,
  oldIndex,
  oldLayers,
  oldMachine,
  oldRequest,
  writeOldLayer,
  type OldLayer,
} from './support/old-layer.ts'
import {
  find,
  firstSystem,
  makeImage,
  otherSystem,
  put,
  read,
  within,
  writeManifest,
} from './support/stored-layers.ts'
import { openMachineLayerNow } from './support/open-layer.ts'

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
    const { state, tree } = old
    const before = contentsOf(old)
    const index = oldIndex(tree)
    const layer = openMachineLayerNow(oldRequest(state, index))
    assert.notEqual(basename(contentsOf(old)), basename(before))
    assert.equal(join(directoryOf(old), layer.name), contentsOf(old))
    put(layer.fileSystem, 'etc/new', 'new')
    while (existsSync(join(directoryOf(old), basename(before))))
      await new Promise((resolve) => setImmediate(resolve))
    await layer.close()
    const again = openMachineLayerNow(oldRequest(state, index))
    assert.equal(again.name, layer.name)
    assert.equal(read(again.fileSystem, 'etc/new'), 'new')
    await again.close()
  })

  test('is compared with one walk over the image, which no layer needs afterwards', async () => {
    const { state, tree } = fresh('script')
    const index = oldIndex(tree)
    const walks: WeakRef<ImageTable>[] = []
    const walkWhole = function* () {
      const table = yield* index.walkWhole()
      walks.push(new WeakRef(table))
      return table
    }
    const layer = openMachineLayerNow(oldRequest(state, { ...index, walkWhole }))
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
    const { state, tree } = old
    const name = basename(contentsOf(old))
    writeFileSync(join(tree, 'etc/another'), '')
    const open = () => openMachineLayerNow(oldRequest(state, oldIndex(tree)))
    const file = join(layerOf(state, oldMachine).directory, name)
    assert.throws(open, netimageError('bad-state', { file }))
    assert.equal(contentsOf(old), file)
    assert.deepEqual(
      readdirSync(directoryOf(old)).filter((each) => /^[0-9a-f]{32}$/.test(each)),
      [name],
    )
  })

  suite('that was saved before it was migrated', () => {
    /** Only the first of two images has the files of the layer. The machine has got the second. */
    async function updated() {
      const [state, first, second] = [freshName(), freshName(), makeImage(freshName(), otherSystem)]
      writeManifest(first, firstSystem)
      const id = readId(first)
      const image = { directory: first, name: 'pi', toplevel: firstSystem, id }
      const tree = join(first, 'net-image/pi')
      const { directory } = writeOldLayer('random-1', { state, tree }, image)
      const older = basename(directory)
      await takeSnapshot(
        { machine: oldMachine, older, directory, lock: `${directory}.lock` },
        'before',
      )
      const shown = await within([state, oldMachine, first], listingOf)
      await within([state, oldMachine, second], (system) => put(system, 'later', 'later'))
      const layer = layerOf(state, oldMachine)
      return {
        ...{ first, layer, shown },
        listing: () => within([state, oldMachine, first], listingOf),
        later: () => within([state, oldMachine, second], (system) => read(system, 'later')),
        restore: () => restoreSnapshot(layer, 'before', assert.fail),
      }
    }

    test('is restored with its own image after the machine has got another', async () => {
      const { first, layer, shown, listing, later, restore } = await updated()
      assert.equal(imagesOfSnapshots(layer, needRecord(layer))[0]?.image.directory, first)
      await restore()
      assert.deepEqual(await listing(), shown)
      await restore()
      assert.equal(await later(), undefined)
    })

    test('is not restored without its image, and the present state stays', async () => {
      const { first, later, restore } = await updated()
      removeTree(first)
      await assert.rejects(restore(), netimageError('bad-state', { file: first }))
      assert.equal(await later(), 'later')
    })
  })
})
