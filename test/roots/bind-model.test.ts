// Random work of a machine and random images: after each boot, the machine sees outside the store what the
// model of the rules says.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FileSystem, NodeId } from '../../src/protocols/nfs/file-system.ts'
import { removeTree } from '../../src/remove-tree.ts'
import { readKept } from '../../src/roots/bind-record.ts'
import { readCopy } from '../../src/roots/copied-database.ts'
import type { KeptFiles } from '../../src/roots/kept-files.ts'
import { broughtBy, willKeep } from '../../src/roots/will-keep.ts'
import type { TreeFile } from '../../src/tree-files.ts'
import { freshNames } from '../support/temporary.ts'
import { createBindModel, type Operation, type SeenNode } from './support/bind-model.ts'
import { makeBoundLayers, type Tree, type TreeNode } from './support/bound-layer.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())

const below = (tops: string[]) => tops.flatMap((top) => ['a', 'b'].map((name) => `${top}/${name}`))
const tops = ['a', 'b']
const names = [...tops, ...below(tops), 'a/a/a']
const aboveOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')))

/** An image: a file is only there if the path above is a directory. */
const image: fc.Arbitrary<Tree> = fc
  .array(
    fc.record({
      kind: fc.constantFrom<TreeNode['kind'] | 'none'>(
        'directory',
        'directory',
        'file',
        'symlink',
        'none',
      ),
      mode: fc.constantFrom(0o644, 0o755),
      text: fc.constantFrom('1', '22', '4444'),
    }),
    { minLength: names.length, maxLength: names.length },
  )
  .map((nodes) => {
    const tree = new Map<string, TreeNode>()
    for (const [place, { kind, mode, text }] of nodes.entries()) {
      const path = names[place] ?? ''
      const above = aboveOf(path)
      if (kind === 'none' || (above !== '' && tree.get(above)?.kind !== 'directory')) continue
      if (kind === 'directory') tree.set(path, { kind, mode: mode === 0o644 ? 0o750 : mode })
      else tree.set(path, { kind, mode: kind === 'file' ? mode : 0o777, text })
    }
    return tree
  })

interface Added {
  above: number
  name: string
}
type Chosen =
  | { do: 'create' | 'mkdir' | 'symlink'; to: Added }
  | { do: 'write' | 'chmod' | 'chown' | 'remove'; path: number }
  | { do: 'rename' | 'link'; path: number; to: Added }

/** A place among the files that are there: otherwise most operations would find nothing. */
const present = fc.nat(30)
const added = fc.record({ above: present, name: fc.constantFrom('a', 'b') })
const work: fc.Arbitrary<Chosen> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('create', 'mkdir', 'symlink'), to: added }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('write', 'chmod', 'chown', 'remove', 'remove'),
      path: present,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('rename', 'rename', 'link'),
      path: present,
      to: added,
    }),
  },
)

/** @returns undefined if there is no file for the operation */
function among(files: ReadonlyMap<string, SeenNode>, chosen: Chosen): Operation | undefined {
  const all = [...files.keys()]
  const directories = ['', ...all.filter((path) => files.get(path)?.kind === 'directory')]
  const pathTo = ({ above, name }: Added) => {
    const directory = directories[above % directories.length] ?? ''
    return directory === '' ? name : `${directory}/${name}`
  }
  if (!('path' in chosen)) return { do: chosen.do, path: pathTo(chosen.to) }
  const path = all[chosen.path % all.length]
  if (path === undefined) return undefined
  return 'to' in chosen ? { do: chosen.do, path, to: pathTo(chosen.to) } : { do: chosen.do, path }
}

interface Boot {
  image: Tree
  /** What the machine does after it. */
  work: readonly Chosen[]
}

const boot: fc.Arbitrary<Boot> = fc.record({
  image: fc.oneof(
    { weight: 3, arbitrary: image },
    { weight: 1, arbitrary: fc.constant(new Map()) },
  ),
  work: fc.array(work, { maxLength: 5 }),
})

/** As the manifest of such an image lists its files. */
function filesOf(tree: Tree): TreeFile[] {
  const store = ['nix', 'nix/store'].map(
    (path) => ({ type: 'directory', path, mode: '0755' }) as const,
  )
  const files = [...tree].map(([path, { kind, mode, ...rest }]): TreeFile => {
    const text = 'text' in rest ? rest.text : ''
    if (kind === 'symlink') return { type: kind, path, target: text }
    const shown = mode.toString(8).padStart(4, '0')
    if (kind === 'directory') return { type: kind, path, mode: shown }
    return { type: kind, path, mode: shown, size: text.length, sha256: text }
  })
  return [...store, ...files]
}

const sentences = ({ files }: KeptFiles) =>
  files.flatMap(({ path, why }) => (why === 'lost' ? [] : [`${path} ${why}`])).toSorted()

test('a layer over one image after the other is as the rules say, and what it keeps can be told before', async () => {
  const whys = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.array(boot, { minLength: 2, maxLength: 5 }), async (boots) => {
      const top = freshName()
      const layers = makeBoundLayers(top)
      const model = createBindModel(new Map())
      let made = layers.image('none', new Map())
      await layers.within(made, () => {})
      let willStay: KeptFiles | undefined
      let movesDirectories = false
      for (const [count, { image, work }] of boots.entries()) {
        made = layers.image(String(count), image)
        model.bind(image)
        await layers.within(made, (system) => {
          if (willStay) {
            const stays = sentences(readCopy(layers.directory, readKept))
            const told = sentences(willStay)
            // The binding tells a directory that the machine has moved, and not what is in it.
            const known = movesDirectories ? told.filter((each) => stays.includes(each)) : told
            assert.deepEqual(known, stays)
            for (const each of stays) whys.add(each.split(' ')[1] ?? '')
          }
          assert.deepEqual(sorted(see(system)), sorted(model.see()))
          for (const next of work) {
            const operation = among(model.see(), next)
            const isDirectory = model.see().get(operation?.path ?? '')?.kind === 'directory'
            if (!operation || !model.act(operation)) continue
            movesDirectories ||= operation.do === 'rename' && isDirectory
            act(system, operation)
          }
          assert.deepEqual(sorted(see(system)), sorted(model.see()))
          // While the layer is in use.
          const nextImage = boots[count + 1]?.image
          willStay = nextImage && willKeep(layers.directory, broughtBy(filesOf(nextImage)))
        })
      }
      const before = model.see()
      await layers.within(made, (system) => assert.deepEqual(sorted(see(system)), sorted(before)))
      removeTree(top)
    }),
    { numRuns: 60 },
  )
  assert.deepEqual([...whys].toSorted(), [
    ...['added-both', 'changed-both', 'gone-from-image', 'removed-here'],
  ])
})

function sorted(files: ReadonlyMap<string, SeenNode>): [string, SeenNode][] {
  return [...files].sort(([one], [other]) => (one < other ? -1 : 1))
}

function see(system: FileSystem): Map<string, SeenNode> {
  const found = new Map<string, SeenNode>()
  const byNode = new Map<NodeId, string[]>()
  const nodes = new Map<string, NodeId>()
  const add = (directory: NodeId, above: string) => {
    for (const { name, node } of system.list(directory, 0)) {
      const path = `${above}${name.toString()}`
      if (path === 'nix') continue
      const { kind, mode, uid, size, links } = system.attributes(node)
      nodes.set(path, node)
      byNode.set(node, [...(byNode.get(node) ?? []), path])
      if (kind === 'directory') {
        found.set(path, { kind, mode, uid })
        add(node, `${path}/`)
        const inside = [...system.list(node, 0)].map((each) => system.attributes(each.node).kind)
        assert.equal(links, 2 + inside.filter((each) => each === 'directory').length, path)
      } else if (kind === 'symlink') {
        found.set(path, { kind, mode, uid, text: system.readLink(node).toString() })
      } else if (kind === 'file') {
        const bytes = Buffer.alloc(size)
        assert.equal(system.read(node, 0, bytes), size)
        found.set(path, { kind, mode, uid, text: bytes.toString() })
      }
    }
  }
  add(system.root, '')
  for (const [path, node] of found) {
    const all = byNode.get(nodes.get(path) ?? 0) ?? []
    if (all.length > 1) found.set(path, { ...node, names: all.sort() })
  }
  return found
}

function act(system: FileSystem, operation: Operation): void {
  const { path } = operation
  const at = placeOf(system, path)
  const node = find(system, path) ?? 0
  const made = { mode: 0o640, uid: 0, gid: 0 }
  switch (operation.do) {
    case 'create':
      return void system.create(...at, { ...made, kind: 'file' })
    case 'mkdir':
      return void system.create(...at, { ...made, kind: 'directory', mode: 0o711 })
    case 'symlink':
      return void system.create(...at, {
        ...{ ...made, kind: 'symlink', mode: 0o777, target: Buffer.from('own') },
      })
    case 'write':
      return system.write(node, 0, Buffer.from('own'))
    case 'chmod':
      return system.setAttributes(node, { mode: 0o600 })
    case 'chown':
      return system.setAttributes(node, { uid: 7 })
    case 'remove':
      if (system.attributes(node).kind === 'directory') return system.removeDirectory(...at)
      return system.remove(...at)
    case 'rename':
      return system.rename(...at, ...placeOf(system, operation.to))
    case 'link':
      return system.link(node, ...placeOf(system, operation.to))
  }
}

function placeOf(system: FileSystem, path: string): [NodeId, Buffer] {
  const name = path.slice(path.lastIndexOf('/') + 1)
  return [find(system, aboveOf(path)) ?? 0, Buffer.from(name)]
}
