// A layer with very many files, or over an image with very many, is opened in pieces, while the server
// answers others.

import assert from 'node:assert/strict'
import { cpSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import {
  openMachineLayer,
  UnfinishedOpening,
  type MachineLayer,
  type MachineLayerRequest,
} from '../../src/roots/machine-layer.ts'
import { UnfinishedBinding } from '../../src/roots/unfinished-binding.ts'
import { UnreadyLayer } from '../../src/roots/unready-layer.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames } from '../support/temporary.ts'
import { countRows } from './support/count-rows.ts'
import { modelDirectory } from './support/layer-model.ts'
import { openMachineLayerNow } from './support/open-layer.ts'
import { find, firstSystem, makeImage, otherSystem, put, read } from './support/stored-layers.ts'
import { readImageIndex } from './support/tree-index.ts'
import { turnsOf } from './support/turns.ts'

const freshName = freshNames(modelDirectory())
const machine = '10.0.0.7'
const earlierSystem = `/nix/store/${'2'.repeat(32)}-system`
const never = new AbortController().signal
const nameOf = (number: number) => `n${number}`
const namesIn = (system: FileSystem, path: string) =>
  [...system.list(find(system, path) ?? assert.fail(path), 0)].length

interface Stored {
  state: string
  image: string
}

/** @param most counts the data of the layer, so that each file is looked at */
function requestOf({ state, image }: Stored, boot: string, most?: number): MachineLayerRequest {
  const index = readImageIndex(image, join(image, 'net-image/pi'))
  const known = { directory: image, name: 'pi', toplevel: firstSystem }
  return { state, machine, image: known, index, boot, most }
}

/** For its first boot, all at once. */
function openNow(stored: Stored): MachineLayer {
  return openMachineLayerNow(requestOf(stored, '1'))
}

async function openInPieces(stored: Stored): Promise<MachineLayer> {
  const opening = begin(stored, '1')
  assert.ok(opening instanceof UnfinishedOpening)
  await opening.makeReady(never)
  return opening.opened ?? assert.fail()
}

/** @param most counts the data of the layer, so that each file is looked at */
function begin(stored: Stored, boot: string, most?: number): UnreadyLayer {
  const opened = openMachineLayer(requestOf(stored, boot, most))
  return opened instanceof UnreadyLayer ? opened : assert.fail('it was opened at once')
}

// So each piece of long work is one step, and no more is done at first than must be.
let now = 0
mock.method(performance, 'now', () => (now += 1000))

suite('a layer with very many files', () => {
  const count = 1500
  const most = 2 ** 30

  async function prepare(): Promise<Stored> {
    const stored = { state: freshName(), image: makeImage(freshName()) }
    const layer = openNow(stored)
    const { fileSystem: system } = layer
    for (let number = 0; number < count;) {
      system.together(() => {
        for (const end = number + 500; number < end; number++) put(system, nameOf(number), 'x')
      })
    }
    await layer.close()
    return stored
  }

  async function assertWhole(layer: MachineLayer): Promise<void> {
    const { fileSystem } = layer
    assert.equal(namesIn(fileSystem, '/'), 1 + count)
    assert.equal(read(fileSystem, nameOf(count - 1)), 'x')
    await layer.close()
  }

  test('is opened in pieces, and is locked as long as it is open', async () => {
    const stored = await prepare()
    const opening = begin(stored, '1', most)
    assert.ok(opening instanceof UnfinishedOpening)
    let killed: Stored | undefined
    const turns = await turnsOf(opening.makeReady(never), (turn) => {
      if (turn !== 20) return
      killed = { ...stored, state: freshName() }
      cpSync(stored.state, killed.state, { recursive: true })
      assert.throws(() => begin(stored, '1'), netimageError('in-use'))
    })
    assert.ok(turns > 500, String(turns))
    assert.throws(() => begin(stored, '1'), netimageError('in-use'))
    assert.equal(opening.held.disposed, false)
    await assertWhole(opening.opened ?? assert.fail())
    assert.ok(opening.held.disposed)
    for (const each of [stored, killed ?? assert.fail()])
      await assertWhole(await openInPieces(each))
  })

  test('is closed and as before if the opening is ended or given up', async () => {
    const stored = await prepare()
    const ending = new AbortController()
    const ended = begin(stored, '1', most)
    await assert.rejects(
      turnsOf(ended.makeReady(ending.signal), (turn) => {
        if (turn === 5) ending.abort()
      }),
      { name: 'AbortError' },
    )
    assert.ok(ended.held.disposed)
    const givenUp = begin(stored, '1', most)
    givenUp.giveUp()
    assert.ok(givenUp.held.disposed)
    await assertWhole(await openInPieces(stored))
  })
})

test('a binding that an opening comes to goes on if the machine starts again meanwhile', async () => {
  const count = 4000
  const stored = { state: freshName(), image: makeImage(freshName()) }
  for (let number = 0; number < count; number++) {
    symlinkSync(nameOf(number), join(stored.image, 'net-image/pi/etc/ssh', nameOf(number)))
  }
  // A first boot waits for the disk before the layer is bound.
  const opening = begin(stored, '1')
  assert.ok(opening instanceof UnfinishedOpening)
  const restart = new AbortController()
  const isBinding = () =>
    readdirSync(stored.state, { recursive: true }).some((name) =>
      /\.new-.*\/layer\.sqlite$/.test(String(name)),
    )
  await turnsOf(opening.makeReady(never, restart.signal), () => {
    if (isBinding()) restart.abort()
  })
  assert.ok(restart.signal.aborted)
  assert.equal(opening.opened, undefined)
  const bound = await openInPieces(stored)
  assert.equal(namesIn(bound.fileSystem, 'etc/ssh'), count)
  await bound.close()
})

test('a layer over an image with very many files outside the store is bound and opened in short pieces', async () => {
  const state = freshName()
  const count = 4000
  const images = [firstSystem, otherSystem].map((system) => makeImage(freshName(), system))
  // A first boot waits for the disk before the layer is bound.
  await openNow({ state, image: makeImage(freshName(), earlierSystem) }).close()
  const rows = countRows()
  for (const [place, image] of images.entries()) {
    for (let number = 0; number < count; number++) {
      symlinkSync(nameOf(number), join(image, 'net-image/pi/etc/ssh', `${place} ${number}`))
    }
    const makeReady = async () => {
      rows.take()
      const unready = begin({ state, image }, `next ${place}`)
      assert.ok(rows.take() < 2100)
      await turnsOf(unready.makeReady(never), () => assert.ok(rows.take() < 10))
      return unready
    }
    assert.ok((await makeReady()) instanceof UnfinishedBinding)
    const opening = await makeReady()
    assert.ok(opening instanceof UnfinishedOpening)
    const layer = opening.opened ?? assert.fail()
    const { fileSystem } = layer
    assert.equal(namesIn(fileSystem, 'etc/ssh'), count)
    const link = find(fileSystem, `etc/ssh/${place} 777`) ?? assert.fail()
    assert.equal(fileSystem.readLink(link).toString(), nameOf(777))
    await layer.close()
  }
  rows.stop()
})
