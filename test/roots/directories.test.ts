// Names are bytes, directories may be large, and they change while they are listed.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { FileSystemError, type FileSystem } from '../../src/protocols/nfs/file-system.ts'
import type { Layer } from '../../src/roots/layer.ts'
import { openLayer } from './support/open-layer.ts'
import { freshNames } from '../support/temporary.ts'
import { openLayerDatabase, type LayerDatabase } from '../../src/roots/database.ts'
import { createDirectories } from '../../src/roots/directories.ts'
import type { LayerImage } from '../../src/roots/layer-image.ts'
import { createNodes } from '../../src/roots/nodes.ts'
import { rootNode } from '../../src/roots/numbers.ts'
import { modelDirectory } from './support/layer-model.ts'
import { numbered } from './support/numbered.ts'
import { createIndex } from './support/tree-index.ts'
import { turnsOf } from './support/turns.ts'

const freshName = freshNames(modelDirectory())
const slash = Buffer.from('/')
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

/** A layer over a directory that has these names. */
function open(names: readonly Buffer[]): Layer & { again(): Layer } {
  const [tree, directory] = [freshName(), freshName()]
  for (const made of [tree, directory]) mkdirSync(made)
  for (const name of names) writeFileSync(Buffer.concat([Buffer.from(tree), slash, name]), '')
  const index = createIndex('tree', tree)
  return {
    ...openLayer(directory, index),
    again: () => openLayer(directory, createIndex('tree', tree)),
  }
}

function listed(system: FileSystem): string[] {
  return [...system.list(system.root, 0)].map(({ name }) => name.toString('latin1'))
}

const name = fc
  .uint8Array({ minLength: 1, maxLength: 255, size: 'max' })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))))
  .filter((bytes) => !['.', '..'].includes(bytes.toString('latin1')))
const inOrder = (names: readonly Buffer[]) =>
  names.map((each) => each.toString('latin1')).toSorted()

test('any bytes are a name, of the image or of the layer', () =>
  fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(name, {
        minLength: 2,
        maxLength: 40,
        selector: (each) => each.toString('hex'),
      }),
      async (names) => {
        const [ofImage, ofLayer] = [names.slice(0, names.length / 2), names.slice(names.length / 2)]
        const layer = open(ofImage)
        const system = layer.fileSystem
        const made = new Map(ofLayer.map((each) => [each, system.create(system.root, each, file)]))
        for (const each of ofImage) {
          assert.throws(() => system.create(system.root, each, file), { code: 'EEXIST' })
        }
        assert.deepEqual(listed(system).toSorted(), inOrder(names))
        await layer.close()
        const later = layer.again()
        for (const [each, node] of made) {
          assert.equal(later.fileSystem.lookup(system.root, each), node)
        }
        assert.deepEqual(listed(later.fileSystem).toSorted(), inOrder(names))
        await later.close()
      },
    ),
    { numRuns: 15 },
  ))

test('names that are not valid are refused', async () => {
  const layer = open([Buffer.from('a')])
  const { fileSystem: system } = layer
  const { root } = system
  const wrong = ['', '.', '..', 'a/b', 'a\0b'].map((text) => [Buffer.from(text), 'EINVAL'] as const)
  const a = Buffer.from('a')
  for (const [each, code] of [...wrong, [Buffer.alloc(256, 'x'), 'ENAMETOOLONG'] as const]) {
    for (const act of [
      () => system.create(root, each, file),
      () => system.rename(root, a, root, each),
      () => system.rename(root, each, root, a),
      () => system.link(2, root, each),
      () => system.remove(root, each),
      () => system.removeDirectory(root, each),
    ]) {
      assert.throws(act, { code })
    }
  }
  assert.deepEqual(listed(system), ['a'])
  await layer.close()
})

const few = fc.constantFrom(...['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'])
const change = fc.record({ what: fc.constantFrom('make', 'remove', 'rename'), name: few, to: few })

test('a listing has no name twice, and skips no name that stays', () =>
  fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(few),
      fc.array(change, { maxLength: 60 }),
      fc.nat(60),
      async (ofImage, changes, start) => {
        const layer = open(ofImage.map((each) => Buffer.from(each)))
        const { fileSystem: system } = layer
        const { root } = system
        const has = (each: string) => system.lookup(root, Buffer.from(each)) !== undefined
        for (const before of changes.slice(0, start)) apply(before)
        const stayed = new Set(listed(system))
        const seen: string[] = []
        let cookie = 0
        const during = changes.slice(start).values()
        for (;;) {
          const [entry] = system.list(root, cookie)
          if (!entry) break
          seen.push(entry.name.toString())
          cookie = entry.cookie
          const next = during.next().value
          if (next) apply(next)
          for (const each of stayed) if (!has(each)) stayed.delete(each)
        }
        for (const each of stayed) assert.ok(seen.includes(each), `${each} was skipped`)
        // A name that was removed and made again may be at another place.
        const counts = Map.groupBy(seen, (each) => each)
        for (const each of stayed) assert.equal(counts.get(each)?.length, 1, `${each} came twice`)
        await layer.close()

        function apply({ what, name: from, to }: { what: string; name: string; to: string }): void {
          const [old, target] = [Buffer.from(from), Buffer.from(to)]
          if (what === 'make' && !has(from)) system.create(root, old, file)
          if (!has(from)) return
          if (what === 'remove') system.remove(root, old)
          if (what === 'rename') system.rename(root, old, root, target)
        }
      },
    ),
    { numRuns: 60 },
  ))

test('100,000 names of a layer are listed once each, in parts', async () => {
  const layer = open([])
  const { fileSystem: system } = layer
  const count = 100_000
  system.together(() => {
    for (let number = 0; number < count; number++) {
      system.create(system.root, Buffer.from(`file-${number}`), file)
    }
  })
  const found = new Set<string>()
  let cookie = 0
  for (let before = -1; found.size > before;) {
    before = found.size
    let inPart = 0
    for (const entry of system.list(system.root, cookie)) {
      found.add(entry.name.toString())
      cookie = entry.cookie
      if (++inPart === 1000) break
    }
  }
  assert.equal(found.size, count)
  assert.equal(system.attributes(system.root).links, 2)
  system.together(() => {
    for (const each of found) system.remove(system.root, Buffer.from(each))
  })
  assert.deepEqual(listed(system), [])
  await layer.close()
})

/** Counts the calls of the database's methods. */
function counting(database: LayerDatabase): { counted: LayerDatabase; calls: () => number } {
  let calls = 0
  const counted = new Proxy(database, {
    get(target, name, receiver) {
      calls++
      return Reflect.get(target, name, receiver) as unknown
    },
  })
  return { counted, calls: () => calls }
}

test('6000 removed names of an image are skipped without a look at each', () => {
  const [tree, directory] = [freshName(), freshName()]
  for (const made of [tree, directory]) mkdirSync(made)
  const count = 6000
  const names = Array.from({ length: count }, (_, at) => `file-${String(at).padStart(6, '0')}`)
  for (const each of names) writeFileSync(`${tree}/${each}`, '')
  const image = numbered(createIndex('tree', tree))
  const database = openLayerDatabase(directory)
  const { counted, calls } = counting(database)
  const directories = createDirectories(
    counted,
    image,
    createNodes(database, image, new Set()),
    new Set(),
  )
  const remaining = new Map(names.map((each, at) => [each, { node: at + 2, cookie: at + 1 }]))
  const takeAway = (gone: (at: number) => boolean) => {
    database.begin()
    for (const [at, each] of names.entries()) {
      if (gone(at) && remaining.delete(each)) directories.take(rootNode, Buffer.from(each))
    }
    database.commit()
  }
  const check = (most: number, after = 0) => {
    const before = calls()
    const found = [...directories.list(rootNode, after)]
    assert.ok(calls() - before <= most, `${calls() - before} calls of the database`)
    const expected = [...remaining].filter(([, { cookie }]) => cookie > after)
    assert.deepEqual(
      found.map(({ name: each, node, cookie }) => [each.toString(), { node, cookie }]),
      expected,
    )
  }
  takeAway((at) => at % 3000 < 2400 || at % 70 === 3)
  directories.put(rootNode, Buffer.from('file-002410'), 7)
  remaining.set('file-002410', { node: 7, cookie: 2411 })
  for (const after of [0, 1, 100, 2399, 2400, 2411, 5000, 5999, 6000]) check(200, after)
  directories.take(rootNode, Buffer.from('file-002410'))
  remaining.delete('file-002410')
  takeAway((at) => at !== 5998)
  check(100)
  assert.throws(() => directories.mustBeEmpty(rootNode), { code: 'ENOTEMPTY' })
  takeAway(() => true)
  check(100)
  directories.mustBeEmpty(rootNode)
  database.close()
})

function untilOf(action: () => unknown): Promise<void> {
  try {
    action()
  } catch (error) {
    assert.ok(error instanceof FileSystemError && error.code === 'EAGAIN' && error.until)
    return error.until
  }
  return assert.fail('nothing is counted')
}

test('60,000 removed names of an image are counted in pieces', async () => {
  const [tree, directory] = [freshName(), freshName()]
  for (const made of [tree, directory]) mkdirSync(made)
  const count = 60_000
  const places = Array.from({ length: count }, (_, at) => Buffer.from(String(at + count)))
  const image: LayerImage = {
    ...numbered(createIndex('tree', tree)),
    childAt(_directory, place) {
      const found = places[place]
      return found && { name: found, node: place + 2 }
    },
    child: (_directory, found) => Number(found) - count + 2,
  }
  const database = openLayerDatabase(directory)
  let counted = 0
  const counting: LayerDatabase = {
    ...database,
    countTaken(...range) {
      const taken = database.countTaken(...range)
      counted += taken
      return taken
    },
  }
  const nodes = createNodes(database, image, new Set())
  const directories = createDirectories(counting, image, nodes, new Set())
  database.begin()
  for (const each of places) directories.take(rootNode, each)
  database.commit()

  const untilCounted = () => {
    const assertFew = () => {
      // At the end of a run, some names are counted twice.
      assert.ok(counted < 40_000, String(counted))
      counted = 0
    }
    counted = 0
    const until = untilOf(() => directories.mustBeEmpty(rootNode))
    return turnsOf(until.then(assertFew), assertFew)
  }
  assert.equal(await untilCounted(), 4)
  directories.mustBeEmpty(rootNode)
  assert.deepEqual([...directories.list(rootNode, 700)], [])
  assert.ok(counted < 40_000)
  // What was counted is forgotten if a name is there again, or may be.
  const [back = assert.fail()] = places.slice(40_000)
  directories.put(rootNode, back, 7)
  await untilCounted()
  assert.throws(() => directories.mustBeEmpty(rootNode), { code: 'ENOTEMPTY' })
  directories.take(rootNode, back)
  directories.forget()
  await untilCounted()
  directories.mustBeEmpty(rootNode)
  database.close()
})
