// A directory of the image whose very many names a machine has removed, and that is removed then.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { openLayerDatabase } from '../../src/roots/database.ts'
import { verifyLayer } from '../../src/roots/verify.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, treeOf } from './support/bound-layer.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())
const path = 'nix/store/p'

/** More than the pieces in which all names can be deleted. */
async function manyTurns(): Promise<void> {
  for (let count = 0; count < 50; count++) await turn()
}

function prepare(count: number) {
  const layers = makeBoundLayers(freshName())
  const names = Array.from({ length: count }, (_, at) => `n${at}`)
  const files = Object.fromEntries(names.map((name) => [`d/${name}`, '']))
  const image = layers.image('a', treeOf({}), { p: files })
  // It stays open, so that no machine waits for the nodes of the store path.
  const index = layers.indexOf(image)
  index.tableOf(0)
  const removeAll = (system: FileSystem) => {
    const [above, directory] = [find(system, path), find(system, `${path}/d`)]
    assert.ok(above && directory)
    system.together(() => {
      for (const name of names) system.remove(directory, Buffer.from(name))
    })
    system.removeDirectory(above, Buffer.from('d'))
    assert.equal(find(system, `${path}/d`), undefined)
    assert.throws(() => [...system.list(directory, 0)], { code: 'ESTALE' })
  }
  /** How many names that were removed are in the database. */
  const left = () => {
    const database = openLayerDatabase(layers.directory)
    const entries = [...database.all('entries')].filter(({ node }) => node === null)
    database.close()
    return entries.length
  }
  return { layers, image, index, removeAll, left }
}

test('its names are deleted in pieces, and the next opening of the layer goes on', async () => {
  const { layers, image, index, removeAll, left } = prepare(1000)
  const first = layers.open(image, '1')
  removeAll(first.fileSystem)
  await first.close()
  const leftAtFirst = left()
  assert.ok(leftAtFirst > 256, String(leftAtFirst))
  assert.deepEqual(verifyLayer(layers.directory, index).problems, [])

  const again = layers.open(image, '1')
  await turn()
  await turn()
  await again.close()
  const leftThen = left()
  assert.ok(leftThen > 1 && leftThen < leftAtFirst, String(leftThen))
  const last = layers.open(image, '1')
  await manyTurns()
  await last.close()
  // Only the name of the directory itself is left.
  assert.equal(left(), 1)
  assert.deepEqual(verifyLayer(layers.directory, index).problems, [])
  index.close()
})

test('its names are deleted while the layer is open, also if an operation was undone', async () => {
  const { layers, image, index, removeAll, left } = prepare(1000)
  const layer = layers.open(image, '1')
  const { fileSystem: system } = layer
  assert.throws(() => {
    system.together(() => {
      removeAll(system)
      throw new Error('undone')
    })
  }, /undone/)
  await manyTurns()
  assert.ok(find(system, `${path}/d/n7`))
  removeAll(system)
  await manyTurns()
  await layer.close()
  assert.equal(left(), 1)
  index.close()
})

test('it keeps what the machine makes in it if a boot brings it back', async () => {
  const { layers, image, index, removeAll } = prepare(350)
  const first = layers.open(image, '1')
  removeAll(first.fileSystem)
  await first.close()
  const again = layers.open(image, '2')
  put(again.fileSystem, `${path}/d/own`, 'own')
  await manyTurns()
  assert.equal(read(again.fileSystem, `${path}/d/own`), 'own')
  assert.ok(find(again.fileSystem, `${path}/d/n7`))
  await again.close()
  index.close()
})
