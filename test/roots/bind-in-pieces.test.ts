// A binding over very many names of a machine goes on in pieces, while the server answers others.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { StatementSync, type SQLInputValue, type StatementResultingChanges } from 'node:sqlite'
import { mock, test } from 'node:test'
import type { FileSystem, NodeId } from '../../src/protocols/nfs/file-system.ts'
import type { RootImage } from '../../src/roots/root-image.ts'
import { UnfinishedBinding } from '../../src/roots/unfinished-binding.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, treeOf, type BoundLayers } from './support/bound-layer.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'
import { turnsOf } from './support/turns.ts'

const freshName = freshNames(modelDirectory())
// So each piece is one step.
let now = 0
mock.method(performance, 'now', () => (now += 1000))
const count = 3000
const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
const folder = { ...made, kind: 'directory', mode: 0o755 } as const
const nodeAt = (system: FileSystem, path: string): NodeId => find(system, path) ?? assert.fail(path)
const never = new AbortController().signal

interface Case {
  /** What the machine does. */
  change: (system: FileSystem) => void
  /** Files of the image's store path. */
  files?: Record<string, string>
  /** What is to be seen before and after a binding to another image. */
  look: (system: FileSystem) => unknown
  before: unknown
  after: unknown
}

function addNames(
  system: FileSystem,
  path: string,
  add: (directory: NodeId, name: Buffer) => void,
) {
  const directory = nodeAt(system, path)
  for (let number = 0; number < count;) {
    system.together(() => {
      for (const end = number + 1000; number < end; number++) {
        add(directory, Buffer.from(`n${number}`))
      }
    })
  }
}

const namesIn = (path: string) => (system: FileSystem) =>
  [...system.list(nodeAt(system, path), 0)].length
const numbered = Array.from({ length: count }, (_, number) => [`n${number}`, `${number}`] as const)

const cases: Record<string, Case> = {
  'that it made in a store path of the image': {
    change: (system) =>
      addNames(system, 'nix/store/p', (at, name) => system.create(at, name, made)),
    look: namesIn('nix/store/p'),
    before: 1 + count,
    after: 1,
  },
  'that it removed from a store path of the image': {
    files: Object.fromEntries(numbered),
    change: (system) => addNames(system, 'nix/store/p', (at, name) => system.remove(at, name)),
    look: namesIn('nix/store/p'),
    before: 1,
    after: 1 + count,
  },
  'in a directory that the image does not bring any more': {
    change: (system) => addNames(system, 'gone', (at, name) => system.create(at, name, made)),
    look: namesIn('gone'),
    before: 1 + count,
    after: count,
  },
  'of one file': {
    change: (system) => {
      system.create(system.root, Buffer.from('mine'), folder)
      const file = nodeAt(system, 'gone/x')
      addNames(system, 'mine', (at, name) => system.link(file, at, name))
    },
    look: (system) => [namesIn('mine')(system), system.attributes(nodeAt(system, 'mine/n7')).links],
    before: [count, count + 1],
    after: [count, count + 1],
  },
  'in a directory that goes with what it was in': {
    change(system) {
      const path = nodeAt(system, 'nix/store/p')
      system.create(path, Buffer.from('made'), folder)
      addNames(system, 'nix/store/p/made', (at, name) => system.create(at, name, made))
    },
    look: namesIn('nix/store/p'),
    before: 2,
    after: 1,
  },
  'in directories that are in each other': {
    change(system) {
      let directory = nodeAt(system, 'nix/store/p')
      system.together(() => {
        for (let depth = 0; depth < 2 * count; depth++)
          directory = system.create(directory, Buffer.from('in'), folder)
      })
    },
    look: namesIn('nix/store/p'),
    before: 2,
    after: 1,
  },
}

interface Prepared {
  layers: BoundLayers
  images: [RootImage, RootImage]
}

async function prepare({ files = {}, change }: Case): Promise<Prepared> {
  const layers = makeBoundLayers(freshName())
  const store = { p: { file: 'P', ...files } }
  const a = layers.image('a', treeOf({ same: '1', 'gone/x': 'g' }), store)
  const b = layers.image('b', treeOf({ same: '2', new: '2' }), store)
  // It stays open, so that no machine waits for the nodes of the store path.
  const index = layers.indexOf(a)
  for (const part of index.storePaths.keys()) index.tableOf(part)
  await layers.within(a, (system) => {
    put(system, 'own', 'own')
    change(system)
  })
  return { layers, images: [a, b] }
}

function unfinishedOf(open: () => unknown): UnfinishedBinding {
  try {
    open()
  } catch (error) {
    if (error instanceof UnfinishedBinding) return error
    throw error
  }
  return assert.fail('it was bound at once')
}

for (const [names, each] of Object.entries(cases)) {
  test(`a layer with very many names ${names} is bound in pieces, and a kill loses nothing`, async () => {
    const { layers, images } = await prepare(each)
    const [a, b] = images
    const looks = (bound: BoundLayers, image: RootImage, binding: string) =>
      bound.within(
        image,
        (system) => [each.look(system), ...['own', 'same'].map((name) => read(system, name))],
        { binding },
      )
    let killedAt: string | undefined
    const unfinished = unfinishedOf(() => layers.open(b, 'next'))
    assert.throws(() => layers.open(b, 'next'), /locked/)
    const turns = await turnsOf(unfinished.makeReady(never), (turn) => {
      if (turn !== 20) return
      const copy = freshName()
      mkdirSync(copy)
      cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
      killedAt = copy
    })
    assert.ok(turns > 20, String(turns))
    assert.ok(unfinished.held.disposed)
    assert.ok(layers.isBoundTo(b))
    const [before, after] = [
      [each.before, 'own', '1'],
      [each.after, 'own', '2'],
    ]
    assert.deepEqual(await looks(layers, b, 'next'), after)

    const killed = layers.at(killedAt ?? assert.fail())
    assert.ok(killed.isBoundTo(a))
    assert.deepEqual(await looks(killed, a, 'boot 0'), before)
    await unfinishedOf(() => killed.open(b, 'next')).makeReady(never)
    assert.deepEqual(await looks(killed, b, 'next'), after)
  })
}

test('a long binding commits its changes in short transactions, which others cannot see', async (t) => {
  const each = Object.values(cases)[0] ?? assert.fail()
  const { layers, images } = await prepare(each)
  const [a, b] = images
  const unfinished = unfinishedOf(() => layers.open(b, 'next'))
  /* oxlint-disable-next-line typescript/unbound-method -- called with `this` below */
  const run: (...values: SQLInputValue[]) => StatementResultingChanges = StatementSync.prototype.run
  const commits: number[] = []
  let changes = 0
  t.mock.method(
    StatementSync.prototype,
    'run',
    function (this: StatementSync, ...values: SQLInputValue[]) {
      const result = run.apply(this, values)
      if (this.sourceSQL !== 'COMMIT') changes += Number(result.changes)
      else if (commits.push(changes)) changes = 0
      return result
    },
  )
  const copies: BoundLayers[] = []
  await turnsOf(unfinished.makeReady(never), () => {
    if (commits.length <= copies.length * 10) return
    const copy = freshName()
    mkdirSync(copy)
    cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
    copies.push(layers.at(copy))
  })
  assert.ok(commits.length > 20, String(commits.length))
  assert.ok(Math.max(...commits) < 1000, String(commits))
  for (const copy of copies) assert.ok(copy.isBoundTo(a))
  assert.ok(layers.isBoundTo(b))
})

test('a binding that is ended or given up has changed nothing', async () => {
  const each = Object.values(cases)[0] ?? assert.fail()
  const { layers, images } = await prepare(each)
  const [a, b] = images
  const ending = new AbortController()
  const ended = unfinishedOf(() => layers.open(b, 'next'))
  await assert.rejects(
    turnsOf(ended.makeReady(ending.signal), (turn) => {
      if (turn === 5) ending.abort()
    }),
    { name: 'AbortError' },
  )
  unfinishedOf(() => layers.open(b, 'next')).giveUp()
  assert.ok(layers.isBoundTo(a))
  assert.equal(await layers.within(a, each.look, { binding: 'boot 0' }), each.before)
})

test('directories of a store path that a machine moved into each other stay, however deep they are', async () => {
  const depth = 2000
  const layers = makeBoundLayers(freshName())
  const names = Array.from({ length: depth }, (_, number) => `n${number}`)
  const files = Object.fromEntries(names.map((name) => [`${name}/in`, '']))
  const a = layers.image('a', treeOf({ same: '1' }), { p: files })
  const b = layers.image('b', treeOf({ same: '2' }), { p: files })
  const index = layers.indexOf(a)
  index.tableOf(0)
  const before = layers.open(a)
  const { fileSystem: system } = before
  const [store, path] = [nodeAt(system, 'nix/store'), nodeAt(system, 'nix/store/p')]
  const [below, inside] = [Buffer.from('below'), Buffer.from('in')]
  system.together(() => {
    const mine = system.create(store, Buffer.from('mine'), folder)
    let name: string | undefined
    // Those that go below others first: a directory that is too deep takes no others.
    for (const next of names.toReversed()) {
      const at = nodeAt(system, `nix/store/p/${next}`)
      system.remove(at, inside)
      if (name !== undefined) system.rename(path, Buffer.from(name), at, below)
      name = next
    }
    system.rename(path, Buffer.from(name ?? ''), mine, below)
  })
  await before.close()
  await unfinishedOf(() => layers.open(b, 'next')).makeReady(never)
  const after = layers.open(b, 'next')
  let [node, found] = [nodeAt(after.fileSystem, 'nix/store/mine'), 0]
  for (; ; found++) {
    const next = after.fileSystem.lookup(node, below)
    if (next === undefined) break
    assert.equal(after.fileSystem.lookup(next, Buffer.from('..')), node)
    assert.equal(after.fileSystem.attributes(next).links, found + 1 === depth ? 2 : 3)
    node = next
  }
  assert.equal(found, depth)
  await after.close()
  index.close()
})
