// What a layer needs of large store paths, and of images with very many files, when it is opened or bound is
// looked at in pieces, while the server answers others.

import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { FileSystem, NodeId } from '../../src/protocols/nfs/file-system.ts'
import { createImageIndexes } from '../../src/roots/image-index.ts'
import { openLayerInSteps, type Layer } from '../../src/roots/layer.ts'
import type { RootImage } from '../../src/roots/root-image.ts'
import { UnreadyLayer } from '../../src/roots/unready-layer.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, treeOf, type BoundLayers } from './support/bound-layer.ts'
import { countLooks } from './support/count-looks.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read, untilDone } from './support/stored-layers.ts'
import { turnsOf } from './support/turns.ts'

const freshName = freshNames(modelDirectory())
const looks = countLooks()
// So each piece is one step.
let now = 0
mock.method(performance, 'now', () => (now += 1000))
const never = new AbortController().signal
const count = 5000
/** The most files that are looked at in one step, and before others are answered for the first time. */
const most = { step: 100, first: 2500 }
const many = Object.fromEntries(Array.from({ length: count }, (_, n) => [`d/n${n}`, `${n}`]))
const nodeAt = (system: FileSystem, path: string): NodeId => find(system, path) ?? assert.fail(path)

/** @param limit of the layer @param look called when others are answered, for the first time or later */
async function open(
  layers: BoundLayers,
  image: RootImage,
  boot: string,
  limit?: number,
  look: (isFirst: boolean) => void = () => {},
): Promise<Layer> {
  for (;;) {
    try {
      const layer = layers.open(image, boot, [], limit)
      look(true)
      return layer
    } catch (error) {
      if (!(error instanceof UnreadyLayer)) throw error
      look(true)
      await turnsOf(error.makeReady(never), () => look(false))
    }
  }
}

/** Does it in the layer, in which a machine waits for large store paths. */
async function within(
  layers: BoundLayers,
  image: RootImage,
  ...actions: ((system: FileSystem) => void)[]
): Promise<void> {
  const layer = await open(layers, image, 'before')
  for (const action of actions) await untilDone(() => action(layer.fileSystem))
  await layer.close()
}

test('a layer that has changed large store paths is opened in short steps', async () => {
  const layers = makeBoundLayers(freshName())
  const image = layers.image('a', treeOf({ same: '1' }), { p: many, q: { ...many, other: '' } })
  await within(
    layers,
    image,
    (system) => system.setAttributes(nodeAt(system, 'nix/store/p/d/n7'), { uid: 7 }),
    (system) => system.setAttributes(nodeAt(system, 'nix/store/q/d/n7'), { uid: 7 }),
  )
  const index = createImageIndexes().open(image)
  const steps = openLayerInSteps(layers.directory, index)
  let all = 0
  looks.take()
  for (;;) {
    const step = steps.next()
    const count = looks.take()
    assert.ok(count < most.step, String(count))
    all += count
    if (!step.done) continue
    const { fileSystem } = step.value
    assert.ok(all >= 2 * count)
    await untilDone(() =>
      assert.equal(fileSystem.attributes(nodeAt(fileSystem, 'nix/store/p/d/n7')).uid, 7),
    )
    await step.value.close()
    break
  }
  index.close()
})

interface Case {
  /** Files of the two images outside the store, and of their store path. */
  files: readonly [Record<string, string>, Record<string, string>]
  paths?: readonly [Record<string, string>, Record<string, string> | undefined]
  change: (system: FileSystem) => void
  /** A file that the machine has then, and what is in it. */
  finally: readonly [string, string]
  limit?: number
}

const folder = { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } as const
const mine = (system: FileSystem) =>
  find(system, 'nix/store/mine') ??
  system.create(nodeAt(system, 'nix/store'), Buffer.from('mine'), folder)
const link = (system: FileSystem) =>
  system.link(nodeAt(system, 'nix/store/p/d/n7'), mine(system), Buffer.from('x'))
const same = [{ same: '1' }, { same: '2' }] as const

const cases: Record<string, Case> = {
  'has given a file of a large store path another name': {
    files: same,
    change: link,
    finally: ['nix/store/mine/x', '7'],
  },
  'has moved a directory of a large store path elsewhere': {
    files: same,
    paths: [
      { ...many, 'few/file': 'f' },
      { ...many, 'few/file': 'f' },
    ],
    change: (system) =>
      system.rename(
        nodeAt(system, 'nix/store/p'),
        Buffer.from('few'),
        mine(system),
        Buffer.from('few'),
      ),
    finally: ['nix/store/mine/few/file', 'f'],
  },
  'has a file of a large store path that its images do not have any more': {
    files: same,
    paths: [many, undefined],
    change: link,
    finally: ['nix/store/mine/x', '7'],
  },
  'has changed a file of an image with very many files that the next image does not have': {
    files: [{ ...many, gone: 'g' }, { same: '2' }],
    change: (system) => system.setAttributes(nodeAt(system, 'gone'), { uid: 7 }),
    finally: ['gone', 'g'],
  },
  'has a limit and many files': {
    files: same,
    change(system) {
      for (let number = 0; number < 1000;) {
        system.together(() => {
          for (const end = number + 500; number < end; number++) put(system, `own-${number}`, 'x')
        })
      }
      link(system)
    },
    finally: ['nix/store/mine/x', '7'],
    limit: 2 ** 30,
  },
}

for (const [what, { files, paths = [many, many], change, finally: found, limit }] of Object.entries(
  cases,
)) {
  test(`a layer is bound in short steps if the machine ${what}`, async () => {
    const layers = makeBoundLayers(freshName())
    const imageOf = (place: 0 | 1) =>
      layers.image(`${place}`, treeOf(files[place]), {
        other: { file: '' },
        ...(paths[place] && { p: paths[place] }),
      })
    const [before, after] = [imageOf(0), imageOf(1)]
    await within(layers, before, (system) => void nodeAt(system, 'nix/store/p/d/n7'), change)
    looks.take()
    const layer = await open(layers, after, 'after', limit, (isFirst) => {
      const count = looks.take()
      assert.ok(count < (isFirst ? most.first : most.step), String(count))
    })
    const [path, text] = found
    await untilDone(() => assert.equal(read(layer.fileSystem, path), text))
    await layer.close()
  })
}

test('the first change of a large store path itself waits until its files have been looked at', async () => {
  const layers = makeBoundLayers(freshName())
  const image = layers.image('a', treeOf({ same: '1' }), { p: many })
  const layer = layers.open(image)
  const { fileSystem: system } = layer
  const change = () => system.setAttributes(nodeAt(system, 'nix/store/p'), { uid: 7 })
  looks.take()
  const turns = await untilDone(() => {
    try {
      change()
    } finally {
      assert.ok(looks.take() < most.first)
    }
  })
  assert.ok(turns > 3, String(turns))
  assert.equal(system.attributes(nodeAt(system, 'nix/store/p')).uid, 7)
  await layer.close()
})
