// A binding that is killed: the layer is as before, or bound anew, and nothing is lost.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, seen, treeOf } from './support/bound-layer.ts'
import { beforeDiskSteps } from './support/disk-steps.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())

test('a binding that is killed at any step has lost nothing', async () => {
  const layers = makeBoundLayers(freshName())
  const store = { p: { data: 'P', 'bin/run': 'p' } }
  const before = layers.image('a', treeOf({ mode: 'm', moved: 'v', 'd/f': 'f', same: '1' }), store)
  const after = layers.image('b', treeOf({ same: '2', new: '2' }), { p: { data: 'Q' } })
  await layers.within(before, (system) => {
    const { root } = system
    const need = (path: string) => find(system, path) ?? 0
    system.setAttributes(need('mode'), { mode: 0o600 })
    system.rename(root, Buffer.from('moved'), root, Buffer.from('there'))
    put(system, 'd/own', 'own')
    put(system, 'nix/store/p/data', 'changed')
    const made = { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } as const
    system.create(need('nix/store'), Buffer.from('mine'), made)
    for (const name of ['data', 'bin/run']) {
      const link = Buffer.from(name.replace('/', '-'))
      system.link(need(`nix/store/p/${name}`), need('nix/store/mine'), link)
    }
  })
  const own = { mode: 'm', there: 'v', 'd/own': 'own' }
  const contents = { data: 'changed', run: 'p' }

  const kills: { step: string; copy: string }[] = []
  beforeDiskSteps((step) => {
    const copy = freshName()
    mkdirSync(copy)
    cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
    kills.push({ step, copy })
  })
  const opened = layers.open(after, 'b')
  beforeDiskSteps()
  await opened.close()
  const found = new Set(kills.map(({ step }) => step))
  for (const step of ['SQL', 'fsync', 'link', 'fdatasync']) assert.ok(found.has(step), step)

  let unbound = 0
  for (const { step, copy } of kills) {
    try {
      const killed = layers.at(copy)
      const [image, expected] = killed.isBoundTo(before)
        ? [before, { ...own, 'd/f': 'f', same: '1' }]
        : [after, { ...own, same: '2', new: '2' }]
      if (image === before) unbound++
      const look = (bound: typeof before, binding?: string) =>
        killed.within(
          bound,
          (system) => {
            const texts = [...seen(system)].flatMap(([path, node]) =>
              'text' in node ? [[path, node.text]] : [],
            )
            const mine = (name: string) => read(system, `nix/store/mine/${name}`)
            return { tree: Object.fromEntries(texts), data: mine('data'), run: mine('bin-run') }
          },
          binding === undefined ? {} : { binding },
        )
      // As it was at the kill, and then bound again.
      assert.deepEqual(await look(image, image === after ? 'b' : 'boot 0'), {
        tree: expected,
        ...contents,
      })
      const again = await look(after)
      assert.deepEqual(again, { tree: { ...own, same: '2', new: '2' }, ...contents })
    } catch (error) {
      throw new Error(`after a kill before ${step}`, { cause: error })
    }
  }
  assert.ok(unbound > 0 && unbound < kills.length, `${unbound} of ${kills.length}`)
})
