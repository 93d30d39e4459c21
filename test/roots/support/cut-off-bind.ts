// A layer that is bound to another image, and what must hold after the binding was cut off at any moment.

import assert from 'node:assert/strict'
import { UnreadyLayer } from '../../../src/roots/unready-layer.ts'
import type { FileSystem } from '../../../src/protocols/nfs/file-system.ts'
import type { Layer } from '../../../src/roots/layer.ts'
import { makeBoundLayers, seen, treeOf, type BoundLayers } from './bound-layer.ts'
import type { DiskStep } from './disk-steps.ts'
import { find, put, read } from './stored-layers.ts'

export interface CutOffBind {
  /** The layer before it is bound. */
  layers: BoundLayers
  /** Binds the layer, or a copy of it. The caller closes it. */
  bind: (layers: BoundLayers) => Promise<Layer>
  /**
   * Fails unless the layer is as before or bound anew, and nothing of the machine is lost. Then binds it
   * again.
   *
   * @returns whether it was bound anew before this
   */
  check: (layers: BoundLayers) => Promise<boolean>
}

/** Most steps of a binding are alike: one in so many of them is enough. */
const alike: Partial<Record<DiskStep, number>> = { SQL: 16, copy: 8, fsync: 6, rename: 4 }

/** @returns whether a step is to be looked at; to be called for each step */
export function chooseSteps(): (step: DiskStep) => boolean {
  const counts = new Map<DiskStep, number>()
  return (step) => {
    const count = counts.get(step) ?? 0
    counts.set(step, count + 1)
    return count % (alike[step] ?? 1) === 0
  }
}

/** So many files are copied before the layer is bound, because they are many: see bind-data.ts. */
const many = Array.from({ length: 20 }, (_, count) => `many/${count}`)

/** @param top a directory that does not exist yet */
export async function prepareBind(top: string): Promise<CutOffBind> {
  const layers = makeBoundLayers(top)
  const files = Object.fromEntries(many.map((name) => [name, name]))
  const before = layers.image(
    'a',
    treeOf({ mode: 'm', moved: 'v', 'd/f': 'f', same: '1', changed: '1' }),
    { p: { data: 'P', 'bin/run': 'p', ...files } },
  )
  const after = layers.image('b', treeOf({ same: '2', new: '2', changed: '2' }), {
    p: { data: 'Q' },
  })
  await layers.within(before, (system) => {
    const { root } = system
    const need = (path: string) => find(system, path) ?? assert.fail(path)
    system.setAttributes(need('mode'), { mode: 0o600 })
    system.rename(root, Buffer.from('moved'), root, Buffer.from('there'))
    put(system, 'd/own', 'own')
    put(system, 'changed', 'own')
    put(system, 'nix/store/p/data', 'changed')
    const made = { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } as const
    system.create(need('nix/store'), Buffer.from('mine'), made)
    for (const name of ['data', 'bin/run', ...many]) {
      const link = Buffer.from(name.replace('/', '-'))
      system.link(need(`nix/store/p/${name}`), need('nix/store/mine'), link)
    }
  })
  const own = { mode: 'm', there: 'v', 'd/own': 'own', changed: 'own' }
  const trees = {
    before: { ...own, 'd/f': 'f', same: '1' },
    after: { ...own, same: '2', new: '2' },
  }
  const linked = { data: 'changed', 'bin-run': 'p' }
  for (const name of many) Object.assign(linked, { [name.replace('/', '-')]: name })

  /** As the server does it: copies that take long are made before. */
  async function open(bound: BoundLayers, id: string): Promise<Layer> {
    for (;;) {
      try {
        return bound.open(after, id)
      } catch (error) {
        if (!(error instanceof UnreadyLayer)) throw error
        await error.makeReady(new AbortController().signal)
      }
    }
  }

  function assertSame(system: FileSystem, when: keyof typeof trees): void {
    const texts = [...seen(system)].flatMap(([path, node]) =>
      'text' in node ? [[path, node.text]] : [],
    )
    assert.deepEqual(Object.fromEntries(texts), trees[when])
    for (const [name, text] of Object.entries(linked)) {
      assert.equal(read(system, `nix/store/mine/${name}`), text, name)
    }
  }

  return {
    layers,
    bind: (bound) => open(bound, 'b'),
    async check(cut) {
      const isBefore = cut.isBoundTo(before)
      const [image, when, binding] = isBefore
        ? ([before, 'before', 'boot 0'] as const)
        : ([after, 'after', 'b'] as const)
      // As the layer was left, and then bound again.
      await cut.within(image, (system) => assertSame(system, when), { binding })
      const opened = await open(cut, 'again')
      await opened.close()
      await cut.within(after, (system) => assertSame(system, 'after'), { binding: 'again' })
      return !isBefore
    },
  }
}
