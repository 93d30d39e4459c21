// The server does not wait for the disk when it copies a small file of the image for a machine that writes to it.
// If the power fails before the copy is on the disk, the machine has the file of the image again.

import assert from 'node:assert/strict'
import { cpSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { openLayerDatabase } from '../../src/roots/database.ts'
import { readUnsyncedCopies } from '../../src/roots/unsynced-copies.ts'
import { waitUntil } from '../support/waiting.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, treeOf, type BoundLayers } from './support/bound-layer.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())

/** The layer as it is on the disk now. */
function cutOff(layers: BoundLayers): BoundLayers {
  const top = freshName()
  cpSync(layers.directory, join(top, 'layer'), { recursive: true })
  return layers.at(top)
}

function unsyncedOf({ directory }: BoundLayers): number[] {
  const database = openLayerDatabase(directory)
  const nodes = readUnsyncedCopies(database)
  database.close()
  return nodes
}

const dataOf = ({ directory }: BoundLayers) =>
  readdirSync(join(directory, 'data')).map((name) => join(directory, 'data', name))

/** What a loss of power can do to a file that is not on the disk. */
const losses = {
  'is missing': (file: string) => rmSync(file),
  'is empty': (file: string) => truncateSync(file),
  'lacks its end': (file: string) => truncateSync(file, 3),
}

suite('a copy of a file of the image', () => {
  for (const [what, lose] of Object.entries(losses)) {
    test(`that ${what} after a loss of power is the file of the image again`, async () => {
      const layers = makeBoundLayers(freshName())
      const a = layers.image('a', treeOf({ file: 'of the image', gone: 'is gone' }))
      const b = layers.image('b', treeOf({ file: 'of the next image' }))
      const layer = layers.open(a, 'boot')
      for (const name of ['file', 'gone']) put(layer.fileSystem, name, 'MINE')
      layer.fileSystem.setAttributes(find(layer.fileSystem, 'gone') ?? 0, { mode: 0o600 })
      const [same, next] = [cutOff(layers), cutOff(layers)]
      await layer.close()
      for (const lost of [same, next]) {
        assert.equal(unsyncedOf(lost).length, 2)
        for (const file of dataOf(lost)) lose(file)
      }
      const see = (file: string, gone: string) => (system: typeof layer.fileSystem) => {
        assert.equal(read(system, 'file'), file)
        assert.equal(read(system, 'gone'), gone)
        assert.equal(system.attributes(find(system, 'gone') ?? 0).mode, 0o600)
        put(system, 'file', 'AGAIN')
      }
      await same.within(a, see('of the image', 'is gone'), { binding: 'boot' })
      await same.within(a, see('AGAINe image', 'is gone'), { binding: 'boot' })
      await next.within(b, see('of the next image', 'is gone'), { binding: 'next' })
    })
  }

  test('stays as the machine has changed it if something that followed was acknowledged', async () => {
    const layers = makeBoundLayers(freshName())
    const a = layers.image('a', treeOf({ file: 'of the image' }))
    const layer = layers.open(a, 'boot')
    put(layer.fileSystem, 'file', 'MINE')
    put(layer.fileSystem, 'other', 'other')
    await layer.fileSystem.stable()
    const cut = cutOff(layers)
    await layer.close()
    assert.deepEqual(unsyncedOf(cut), [])
    await cut.within(a, (system) => assert.equal(read(system, 'file'), 'MINEhe image'), {
      binding: 'boot',
    })
  })

  test('is synced although nobody waits for it if there are many', async () => {
    const layers = makeBoundLayers(freshName())
    const names = Array.from({ length: 100 }, (_, number) => `n${number}`)
    const a = layers.image('a', treeOf(Object.fromEntries(names.map((name) => [name, name]))))
    const layer = layers.open(a, 'boot')
    for (const name of names) put(layer.fileSystem, name, 'N')
    await waitUntil('all is synced', () => unsyncedOf(cutOff(layers)).length === 0)
    await layer.close()
  })
})
