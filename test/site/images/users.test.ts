// Which images of a site are in use.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readRootImage } from '../../../src/roots/root-image.ts'
import { createImageIndexes } from '../../../src/roots/image-index.ts'
import { removeSnapshot, restoreSnapshot, takeSnapshot } from '../../../src/roots/snapshots.ts'
import { layerOf } from '../../../src/roots/stored-layer.ts'
import { machinesByImage } from '../../../src/site/images/users.ts'
import { makeImage } from '../../roots/support/stored-layers.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { openMachineLayerNow } from '../../roots/support/open-layer.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'
const system = (digit: number) => `/nix/store/${String(digit).repeat(32)}-system`

test('images of snapshots are in use, also after the machine has others', async () => {
  const state = freshName()
  const images = [0, 1, 2, 3].map((digit) => {
    const directory = makeImage(freshName(), system(digit))
    const rootImage = readRootImage(directory, `${directory}/net-image/pi`)
    const { id } = rootImage
    return { rootImage, known: { directory, name: 'pi', toplevel: system(digit), id } }
  })
  const boot = async (bound: number, ...kept: number[]) => {
    const [image, ...others] = [bound, ...kept].map((number) => images[number] ?? assert.fail())
    assert.ok(image)
    const index = createImageIndexes().open(
      image.rootImage,
      others.map(({ rootImage }) => rootImage),
    )
    const keptImages = others.map(({ known }) => known)
    const request = { state, machine, image: image.known, keptImages, index }
    await openMachineLayerNow(request).close()
    index.close()
  }
  const used = () => {
    const machines = machinesByImage(state, assert.fail)
    return images.map(({ known }) => machines.get(known.id)?.join() === machine)
  }
  const layer = layerOf(state, machine)

  await boot(1, 0)
  await takeSnapshot(layer, 'one')
  await boot(2)
  await boot(3)
  assert.deepEqual(used(), [true, true, false, true])
  await restoreSnapshot(layer, 'one', assert.fail)
  await removeSnapshot(layer, 'one', assert.fail)
  assert.deepEqual(used(), [true, true, false, false])
})
