// Files with data that no node has any more are removed while the server serves others.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { dataFolder } from '../../src/roots/data-files.ts'
import { freshNames } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeBoundLayers, treeOf } from './support/bound-layer.ts'
import { modelDirectory } from './support/layer-model.ts'
import { put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())

test('what a machine wrote in the store path of an image is removed after the boot, and nothing else', async () => {
  const layers = makeBoundLayers(freshName())
  const names = Array.from({ length: 300 }, (_, at) => `f${at}`)
  const image = layers.image('a', treeOf({}), {
    p: Object.fromEntries(names.map((name) => [name, 'image'])),
  })
  const writeAll = (of: typeof names, text: string) =>
    layers.within(image, (system) => {
      system.together(() => {
        for (const name of of) put(system, `nix/store/p/${name}`, text)
      })
    })
  await writeAll(names, 'first')
  const folder = dataFolder(layers.directory)
  assert.equal(readdirSync(folder).length, names.length)
  // The server ends while it removes the files. The next opening goes on.
  await layers.within(image, () => {})
  assert.ok(readdirSync(folder).length > 0)

  const layer = layers.open(image)
  const again = names.filter((_, at) => at % 2 === 0)
  for (const name of again) put(layer.fileSystem, `nix/store/p/${name}`, 'again')
  await waitUntil('the files are removed', () => readdirSync(folder).length === again.length)
  const texts = names.map((name) => read(layer.fileSystem, `nix/store/p/${name}`))
  await layer.close()
  assert.deepEqual(
    texts,
    names.map((_, at) => (at % 2 === 0 ? 'again' : 'image')),
  )
})
