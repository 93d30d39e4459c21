// A layer is bound to another image: what the machine changed stays, the rest follows the image. The
// cases are those of the table in docs/layers.md.

import assert from 'node:assert/strict'
import fs, { readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { mock, suite, test } from 'node:test'
import type { FileSystem, NodeId } from '../../src/protocols/nfs/file-system.ts'
import { readKept } from '../../src/roots/bind-record.ts'
import { unrecordedAfter } from '../../src/roots/boot-id.ts'
import { dataFolder } from '../../src/roots/data-files.ts'
import { openLayerDatabase } from '../../src/roots/database.ts'
import { UnpreparedCopies } from '../../src/roots/prepare-copies.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames } from '../support/temporary.ts'
import { countRows } from './support/count-rows.ts'
import { modelDirectory } from './support/layer-model.ts'
import { bootFile, makeBoundLayers, seen, treeOf, type BoundLayers } from './support/bound-layer.ts'
import { find, put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())
const fresh = () => makeBoundLayers(freshName())
const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
const folder = { ...made, kind: 'directory', mode: 0o755 } as const

function unpreparedOf(open: () => unknown): UnpreparedCopies {
  try {
    open()
  } catch (error) {
    if (error instanceof UnpreparedCopies) return error
    throw error
  }
  return assert.fail('nothing had to be prepared')
}

/** Does the action while the disk has no free room. */
function withFullDisk(action: () => void): void {
  const { statfsSync } = fs
  mock.method(fs, 'statfsSync', (path: string) =>
    Object.assign(statfsSync(path), { bfree: 0, bavail: 0 }),
  )
  syncBuiltinESMExports()
  try {
    action()
  } finally {
    mock.restoreAll()
    syncBuiltinESMExports()
  }
}

/** The texts of the files in a directory. */
function textsIn(system: FileSystem, path: string): Record<string, string> {
  const names = [...system.list(need(system, path), 0)].map(({ name }) => name.toString())
  return Object.fromEntries(names.map((name) => [name, read(system, `${path}/${name}`) ?? '']))
}

function need(system: FileSystem, path: string): NodeId {
  const node = find(system, path)
  assert.ok(node !== undefined, path)
  return node
}

function place(system: FileSystem, path: string): [NodeId, Buffer] {
  const at = path.lastIndexOf('/')
  return [need(system, path.slice(0, Math.max(0, at))), Buffer.from(path.slice(at + 1))]
}

const remove = (system: FileSystem, path: string) => system.remove(...place(system, path))
const rename = (system: FileSystem, from: string, to: string) =>
  system.rename(...place(system, from), ...place(system, to))
const link = (system: FileSystem, from: string, to: string) =>
  system.link(need(system, from), ...place(system, to))
const texts = (system: FileSystem) =>
  Object.fromEntries(
    [...seen(system)].flatMap(([path, node]) => ('text' in node ? [[path, node.text]] : [])),
  )
const told = ({ directory }: BoundLayers) => {
  const database = openLayerDatabase(directory)
  const { files } = readKept(database)
  database.close()
  return files.map(({ path, why }) => `${path} ${why}`).sort()
}

suite('binding a layer to another image', () => {
  test('follows what the machine did not change, and keeps what it changed, and tells both', async () => {
    const layers = fresh()
    const before = layers.image(
      'a',
      treeOf({
        same: '1',
        other: '1',
        gone: '1',
        written: '1',
        mode: '1',
        'd/removed': '1',
        l: '-> a',
      }),
    )
    const after = layers.image(
      'b',
      treeOf({
        same: '1',
        other: '2',
        written: '2',
        mode: '2',
        'd/removed': '2',
        new: '2',
        l: '-> b',
      }),
    )
    await layers.within(before, (system) => {
      put(system, 'written', 'm')
      system.setAttributes(need(system, 'mode'), { mode: 0o600 })
      remove(system, 'd/removed')
      put(system, 'own', 'm')
      put(system, 'd/own', 'm')
    })
    const bound = await layers.within(after, (system) => ({
      texts: texts(system),
      mode: system.attributes(need(system, 'mode')).mode,
    }))
    assert.deepEqual(bound, {
      texts: {
        ...{ same: '1', other: '2', written: 'm', mode: '2', new: '2', l: 'b' },
        ...{ own: 'm', 'd/own': 'm' },
      },
      mode: 0o600,
    })
    assert.deepEqual(told(layers), ['/d/removed removed-here', '/written changed-both'])
    // And back: nothing of the machine's is lost.
    const back = await layers.within(before, texts)
    assert.deepEqual(back, {
      ...{ same: '1', other: '1', gone: '1', written: 'm', mode: '1', l: 'a' },
      ...{ own: 'm', 'd/own': 'm' },
    })
  })

  test('keeps what the machine changed if the image does not have it any more', async () => {
    const layers = fresh()
    const names = ['mode', 'written', 'linked', 'moved', 'unchanged', 'd/e/file', 'd/x']
    const files = Object.fromEntries(names.map((name) => [name, `image ${name}`]))
    const before = layers.image(
      'a',
      treeOf({ ...files, 'm/in/side': 'm', 'm/l': '-> x', l: '-> y' }),
    )
    const after = layers.image('b', treeOf({ only: 'b' }))
    await layers.within(before, (system) => {
      system.setAttributes(need(system, 'mode'), { mode: 0o600 })
      system.setAttributes(need(system, 'l'), { uid: 7 })
      put(system, 'written', 'WRITE')
      link(system, 'linked', 'link')
      rename(system, 'moved', 'there')
      rename(system, 'm', 'n')
      system.setAttributes(need(system, 'd/e/file'), { uid: 5 })
    })
    const expected = {
      ...{ only: 'b', mode: 'image mode', written: 'WRITE written', l: 'y' },
      ...{ linked: 'image linked', link: 'image linked', there: 'image moved' },
      ...{ 'n/in/side': 'm', 'n/l': 'x', 'd/e/file': 'image d/e/file' },
    }
    assert.deepEqual(await layers.within(after, texts), expected)
    const links = await layers.within(after, (system) => [
      system.attributes(need(system, 'link')).links,
      system.attributes(need(system, 'd')).links,
      need(system, 'link') === need(system, 'linked'),
    ])
    assert.deepEqual(links, [2, 3, true])
    // The image is not needed any more, and what the machine removes now stays removed.
    await layers.within(after, (system) => remove(system, 'mode'))
    const third = layers.image('c', treeOf({ only: 'c', linked: 'c', 'd/e': 'now a file' }))
    const { mode: _, ...rest } = expected
    assert.deepEqual(await layers.within(third, texts), { ...rest, only: 'c' })
  })

  test('takes away what the machine wrote about its boot before', async () => {
    const layers = fresh()
    const note = bootFile.join('/')
    const image = layers.image('a', treeOf({ 'boot/other': '1' }))
    const next = layers.image('b', treeOf({ 'boot/other': '2' }))
    const write = (system: FileSystem) => put(system, note, 'm')
    const isThere = (system: FileSystem) => find(system, note) !== undefined
    await layers.within(image, write, { binding: 'first' })
    assert.ok(await layers.within(image, isThere, { binding: 'first' }))
    assert.ok(!(await layers.within(image, isThere, { binding: 'second' })))
    // A server that could not record a boot ends, and the next one knows only the boot before.
    await layers.within(image, write, { binding: unrecordedAfter('second') })
    assert.ok(await layers.within(image, isThere, { binding: 'second' }))
    const unrecorded = unrecordedAfter('second')
    assert.ok(!(await layers.within(image, isThere, { binding: unrecorded })))
    await layers.within(image, write, { binding: 'second' })
    assert.deepEqual(await layers.within(next, texts, { binding: 'third' }), { 'boot/other': '2' })

    // Another name of the file, a directory, a link in its place, and the file of an image.
    await layers.within(next, (system) => {
      write(system)
      link(system, note, 'kept')
    })
    assert.deepEqual(await layers.within(next, texts), { 'boot/other': '2', kept: 'm' })
    await layers.within(next, (system) => {
      remove(system, 'boot/other')
      system.removeDirectory(...place(system, 'boot'))
      rename(system, 'kept', 'note')
      const target = { ...made, kind: 'symlink', target: Buffer.from('.') } as const
      system.create(system.root, Buffer.from('boot'), target)
    })
    assert.deepEqual(await layers.within(next, texts), { note: 'm', boot: '.' })
    const others = fresh()
    const shipped = others.image('c', treeOf({ [note]: 'image', 'boot/other': '3' }))
    assert.deepEqual(await others.within(shipped, texts), { 'boot/other': '3' })
  })

  test('keeps a file that stayed earlier if a later image brings no directory for it', async () => {
    const layers = fresh()
    const one = layers.image('a', treeOf({ 'd/file': 'image', 'd/other': 'image' }))
    const two = layers.image('b', treeOf({ 'd/other': 'image' }))
    const three = layers.image('c', treeOf({ d: '-> elsewhere' }))
    const four = layers.image('d', treeOf({}))
    await layers.within(one, (system) => put(system, 'd/file', 'OWN'))
    await layers.within(two, texts)
    for (const image of [three, four]) {
      assert.deepEqual(await layers.within(image, texts), { 'd/file': 'OWNge' })
    }
  })

  test('refuses and changes nothing if the data that stays is in an image that is missing', async () => {
    const layers = fresh()
    const before = layers.image('a', treeOf({ file: 'data' }))
    const after = layers.image('b', treeOf({}))
    await layers.within(before, (system) =>
      system.setAttributes(need(system, 'file'), { mode: 0o600 }),
    )
    layers.lose(before)
    assert.throws(() => layers.open(after), netimageError('bad-state', { file: '/file' }))
    assert.deepEqual(await layers.within(before, texts), { file: 'data' })
  })

  test('keeps names that the machine gave although the image brings the same names', async () => {
    const layers = fresh()
    const before = layers.image('a', treeOf({ d: 'file in a', 'e/x': 'a' }))
    const after = layers.image(
      'b',
      treeOf({ d: 'file in b', 'e/own': 'b', 'own/below': 'b', new: 'b' }),
    )
    await layers.within(before, (system) => {
      put(system, 'own', 'm')
      put(system, 'e/own', 'm')
      remove(system, 'e/x')
    })
    assert.deepEqual(await layers.within(after, texts), {
      ...{ d: 'file in b', 'e/own': 'm', own: 'm', new: 'b' },
    })
    assert.deepEqual(told(layers), ['/e/own added-both', '/own added-both'])
    await layers.within(after, (system) => remove(system, 'own'))
    assert.deepEqual(await layers.within(before, texts), {
      d: 'file in a',
      'e/own': 'm',
      'e/x': 'a',
    })
  })

  test('lets a moved directory stay beside the one that a later image brings', async () => {
    const layers = fresh()
    const [a, b, c] = [
      layers.image('a', treeOf({ 'd/x': 'a', y: 'a', 'k/x': 'a' })),
      layers.image('b', treeOf({})),
      layers.image('c', treeOf({ 'd/x': 'c', y: 'c', 'k/x': 'c', 'k/n': 'c' })),
    ]
    await layers.within(a, (system) => {
      rename(system, 'd', 'e')
      rename(system, 'y', 'z')
      system.setAttributes(need(system, 'k/x'), { mode: 0o600 })
    })
    const stayed = { 'e/x': 'a', z: 'a', 'k/x': 'a' }
    assert.deepEqual(await layers.within(b, texts), stayed)
    // The directory that stayed in its place gets the files of the image. A moved one does not.
    assert.deepEqual(await layers.within(c, texts), { ...stayed, 'd/x': 'c', y: 'c', 'k/n': 'c' })
    await layers.within(b, (system) => rename(system, 'k', 'm'))
    assert.deepEqual(await layers.within(c, texts), {
      ...{ 'e/x': 'a', z: 'a', 'm/x': 'a', 'd/x': 'c', y: 'c', 'k/x': 'c', 'k/n': 'c' },
    })
  })

  test('lets names that were removed come back only with an image that had not brought them', async () => {
    const layers = fresh()
    const [a, b, c] = [
      layers.image('a', treeOf({ x: 'a', 'd/y': 'a' })),
      layers.image('b', treeOf({ 'd/z': 'b' })),
      layers.image('c', treeOf({ x: 'c', 'd/y': 'c', 'd/z': 'c' })),
    ]
    await layers.within(a, (system) => {
      remove(system, 'x')
      remove(system, 'd/y')
      system.removeDirectory(system.root, Buffer.from('d'))
    })
    // The machine removed the directory, so what the image brings there is not shown.
    assert.deepEqual(await layers.within(b, texts), {})
    assert.deepEqual(await layers.within(c, texts), { x: 'c' })
  })
})

suite('the store of a bound layer', () => {
  const p = { p: { 'bin/run': 'p', data: 'P' } }
  const q = { q: { 'bin/run': 'q' } }
  const run = (system: FileSystem, name: string) => read(system, `nix/store/${name}/bin/run`)

  test('is as the images have it after each boot, and has the own paths of the machine', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), { ...p, ...q })
    await layers.within(
      a,
      (system) => {
        put(system, 'nix/store/p/data', 'changed')
        put(system, 'nix/store/p/new', 'new')
        remove(system, 'nix/store/q/bin/run')
        system.removeDirectory(need(system, 'nix/store/q'), Buffer.from('bin'))
        system.removeDirectory(need(system, 'nix/store'), Buffer.from('q'))
        for (const name of ['mine', '.links']) {
          system.create(need(system, 'nix/store'), Buffer.from(name), folder)
        }
        put(system, 'nix/store/mine/own', 'own')
        link(system, 'nix/store/p/bin/run', 'nix/store/.links/1')
        link(system, 'nix/store/p/bin/run', 'nix/store/mine/run')
        link(system, 'nix/store/p/data', 'nix/store/mine/data')
        link(system, 'nix/store/mine/own', 'nix/store/p/linked')
        put(system, 'nix/store/p/bin/added', 'added')
      },
      { binding: 'first' },
    )
    const again = await layers.within(a, (system) => read(system, 'nix/store/p/data'), {
      binding: 'first',
    })
    assert.equal(again, 'changed')
    const after = await layers.within(a, (system) => ({
      images: [run(system, 'p'), run(system, 'q'), read(system, 'nix/store/p/data')],
      gone: [find(system, 'nix/store/p/new'), find(system, 'nix/store/.links/1')],
      own: ['own', 'run', 'data'].map((name) => read(system, `nix/store/mine/${name}`)),
      mine: system.attributes(need(system, 'nix/store/mine')).links,
      links: system.attributes(need(system, 'nix/store/mine/own')).links,
      store: system.attributes(need(system, 'nix/store')).links,
    }))
    assert.deepEqual(after, {
      ...{ images: ['p', 'q', 'P'], gone: [undefined, undefined], links: 1, store: 6, mine: 2 },
      own: ['own', 'p', 'changed'],
    })
  })

  test('keeps files of the paths of kept images that the machine linked to its own', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), p)
    const b = layers.image('b', treeOf({ x: 'b' }), q)
    await layers.within(
      b,
      (system) => {
        system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
        link(system, 'nix/store/p/data', 'nix/store/mine/data')
      },
      { kept: [a] },
    )
    const alone = (system: FileSystem) => read(system, 'nix/store/mine/data')
    assert.equal(await layers.within(b, alone), 'P')
  })

  test('has many or large files copied before it is bound, and does not copy them again', async () => {
    const layers = fresh()
    const files = Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`f${at}`, `${at}`]))
    const image = layers.image('a', treeOf({ x: 'a' }), { many: files })
    await layers.within(image, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
      rename(system, 'nix/store/many', 'nix/store/mine/many')
    })
    const first = unpreparedOf(() => layers.open(image))
    const ending = new AbortController()
    const ends = new UnpreparedCopies(
      first.folder,
      first.copies.map((copy, at) => ({
        ...copy,
        open: () => (at < 5 ? copy.open() : assert.fail(String(ending.abort()))),
      })),
    )
    await assert.rejects(ends.makeReady(ending.signal))
    first.held.dispose()
    // The server was killed, say. What was finished is used.
    const second = unpreparedOf(() => layers.open(image))
    assert.equal(second.copies.length, first.copies.length - 5)
    const probe = await open(import.meta.filename)
    const syncs = mock.method(Object.getPrototypeOf(probe), 'sync')
    await probe.close()
    await second.makeReady(new AbortController().signal)
    // All were synced together.
    assert.equal(syncs.mock.callCount(), 0)
    syncs.mock.restore()
    assert.ok(second.held.disposed)
    const stored = await layers.within(image, (system) =>
      ['many', 'mine/many'].map((path) => textsIn(system, `nix/store/${path}`)),
    )
    assert.deepEqual(stored, [files, files])
  })

  test('leaves what the machine linked to the files of an image if there is no room for copies', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), p)
    const b = layers.image('b', treeOf({ x: 'b' }), q)
    const [own, ofImage] = ['nix/store/mine/data', 'nix/store/p/data']
    await layers.within(a, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
      link(system, ofImage, own)
      link(system, own, 'nix/store/mine/again')
    })
    const state = (system: FileSystem) => ({
      texts: [own, 'nix/store/mine/again'].map((path) => read(system, path)),
      links: system.attributes(need(system, own)).links,
      isOfImage: need(system, own) === find(system, ofImage),
    })
    const texts = ['P', 'P']
    const full = await layers.within(a, state, { most: 1 })
    assert.deepEqual(full, { texts, links: 3, isOfImage: true })
    const before = await layers.within(a, state, { most: 1 })
    assert.deepEqual(before, full)
    // The machine boots, and loses nothing, although its layer is larger than its limit.
    const gone = await layers.within(b, state, { most: 1 })
    assert.deepEqual(gone, { texts, links: 2, isOfImage: false })
    await layers.within(a, (system) => link(system, ofImage, 'nix/store/mine/third'))
    const third = (system: FileSystem) => need(system, 'nix/store/mine/third')
    await layers.within(a, third, { most: 1 })
    const copied = await layers.within(a, (system) => third(system) !== need(system, ofImage))
    assert.ok(copied)
    assert.deepEqual(told(layers), [])
  })

  test('keeps the mode that the machine set through its name if there is no room for a copy', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), p)
    await layers.within(a, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
      link(system, 'nix/store/p/data', 'nix/store/mine/data')
      system.setAttributes(need(system, 'nix/store/mine/data'), { mode: 0o400 })
    })
    const modes = (system: FileSystem) =>
      ['mine', 'p'].map((path) => system.attributes(need(system, `nix/store/${path}/data`)).mode)
    await layers.within(a, () => {}, { most: 1 })
    const [mine, ofImage] = await layers.within(a, modes)
    assert.equal(mine, 0o400)
    assert.notEqual(ofImage, 0o400)
  })

  test('counts no name in a directory that goes with the store path into which it was moved', async () => {
    const layers = fresh()
    const image = layers.image('a', treeOf({ 'd/x': 'x' }), p)
    await layers.within(image, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
      link(system, 'nix/store/p/data', 'nix/store/mine/data')
      rename(system, 'nix/store/mine', 'nix/store/p/mine')
    })
    const links = (system: FileSystem) => system.attributes(need(system, 'nix/store/p/data')).links
    assert.equal(await layers.within(image, links, { most: 1 }), 1)
  })

  test('is refused and unchanged if the disk has no room for what the image does not have any more', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), p)
    const b = layers.image('b', treeOf({ x: 'b' }), q)
    await layers.within(a, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
      link(system, 'nix/store/p/data', 'nix/store/mine/data')
    })
    withFullDisk(() => {
      const file = '/nix/store/mine/data'
      assert.throws(() => layers.open(b), netimageError('disk-full', { file }))
    })
    assert.ok(layers.isBoundTo(a))
    const text = await layers.within(b, (system) => read(system, 'nix/store/mine/data'))
    assert.equal(text, 'P')
    assert.deepEqual(told(layers), [])
  })

  test('tells the names that are lost because their image is missing, also if the image stays', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ own: 'a' }), p)
    const b = layers.image('b', treeOf({ own: 'b' }), q)
    const other = layers.image('c', treeOf({ x: 'c' }), { c: { 'bin/run': 'c', data: 'C' } })
    await layers.within(a, (system) => put(system, 'own', 'mine'))
    await layers.within(
      b,
      (system) => {
        system.create(need(system, 'nix/store'), Buffer.from('mine'), folder)
        system.create(need(system, 'nix/store/mine'), Buffer.from('in'), folder)
        link(system, 'nix/store/c/data', 'nix/store/mine/in/data')
        link(system, 'nix/store/c/bin/run', 'nix/store/c/bin/again')
        rename(system, 'nix/store/c/bin', 'nix/store/mine/bin')
      },
      { kept: [other] },
    )
    layers.lose(other)
    const left = await layers.within(b, (system) => find(system, 'nix/store/mine/in/data'))
    assert.equal(left, undefined)
    const lost = ['bin', 'bin/again', 'in/data'].map((path) => `/nix/store/mine/${path} lost`)
    assert.deepEqual(told(layers), [...lost, '/own changed-both'])
    await layers.within(b, () => {})
    assert.deepEqual(told(layers), [...lost, '/own changed-both'])
  })

  test('has the paths of kept images, and an own path gives way to one of an image', async () => {
    const layers = fresh()
    const a = layers.image('a', treeOf({ x: 'a' }), p)
    const b = layers.image('b', treeOf({ x: 'b' }), q)
    await layers.within(a, (system) => {
      system.create(need(system, 'nix/store'), Buffer.from('q'), folder)
      put(system, 'nix/store/q/mine', 'mine')
      system.create(need(system, 'nix/store'), Buffer.from('r'), folder)
      put(system, 'nix/store/r/mine', 'mine')
    })
    const both = await layers.within(
      b,
      (system) => [run(system, 'p'), run(system, 'q'), find(system, 'nix/store/q/mine')],
      { kept: [a] },
    )
    assert.deepEqual(both, ['p', 'q', undefined])
    const alone = await layers.within(b, (system) => [
      run(system, 'p'),
      run(system, 'q'),
      read(system, 'nix/store/r/mine'),
    ])
    assert.deepEqual(alone, [undefined, 'q', 'mine'])
  })

  test('hides a store path of the machine as long as an image has the path, and loses nothing of it', async () => {
    const layers = fresh()
    const paths = { 'b-shared': { 'bin/b': 'image' } }
    const a = layers.image('a', treeOf({}), p)
    const b = layers.image('b', treeOf({}), paths)
    const makeShared = (system: FileSystem, text: string) => {
      system.create(need(system, 'nix/store'), Buffer.from('b-shared'), folder)
      system.create(need(system, 'nix/store/b-shared'), Buffer.from('bin'), folder)
      put(system, 'nix/store/b-shared/bin/b', text)
    }
    await layers.within(a, (system) => {
      makeShared(system, 'own')
      system.create(need(system, 'nix/store'), Buffer.from('c-own'), folder)
      put(system, 'nix/store/c-own/c', 'own')
    })
    const pathsSeen = (system: FileSystem) => [
      read(system, 'nix/store/b-shared/bin/b'),
      read(system, 'nix/store/c-own/c'),
    ]
    const change = async (image: typeof a) => await layers.within(image, pathsSeen)
    assert.deepEqual(await change(b), ['image', 'own'])
    await layers.within(b, (system) => {
      // Nix removes the path of the image, and fetches it again.
      remove(system, 'nix/store/b-shared/bin/b')
      system.removeDirectory(...place(system, 'nix/store/b-shared/bin'))
      system.removeDirectory(...place(system, 'nix/store/b-shared'))
      makeShared(system, 'own again')
    })
    assert.deepEqual(await change(b), ['image', 'own'])
    assert.deepEqual(await change(a), ['own', 'own'])
    assert.deepEqual(await change(a), ['own', 'own'])
  })

  test('reads a few rows for each store path that an image hides', async () => {
    const layers = fresh()
    const rowsFor = async (count: number) => {
      const names = Array.from({ length: count }, (_, at) => `${count}-${at}`)
      const paths = Object.fromEntries(names.map((name) => [name, { f: 'image' }]))
      const without = layers.image(`without ${count}`, treeOf({}))
      const image = layers.image(`with ${count}`, treeOf({}), paths)
      await layers.within(without, (system) => {
        for (const name of names) {
          system.create(need(system, 'nix/store'), Buffer.from(name), folder)
        }
      })
      const rows = countRows()
      const layer = layers.open(image)
      const read = rows.take()
      rows.stop()
      await layer.close()
      await layers.within(without, () => {})
      return read
    }
    const few = await rowsFor(20)
    assert.ok((await rowsFor(80)) < 5 * few)
  })

  test('takes away all that the machine made in a directory that it moved into a store path', async () => {
    const layers = fresh()
    const image = layers.image('a', treeOf({ 'd/e/x': '1', 'd/f/y': '1' }), p)
    await layers.within(image, (system) => {
      put(system, 'd/e/own', 'own')
      system.create(need(system, 'd/e'), Buffer.from('made'), folder)
      put(system, 'd/e/made/own', 'own')
      link(system, 'd/e/own', 'd/e/made/linked')
      link(system, 'd/e/made/own', 'kept')
      link(system, 'd/e/x', 'd/e/made/x')
      rename(system, 'd/f', 'd/e/made/f')
      rename(system, 'd', 'nix/store/p/d')
    })
    const after = await layers.within(image, (system) => ({
      texts: texts(system),
      links: system.attributes(need(system, 'kept')).links,
    }))
    assert.deepEqual(after, { texts: { kept: 'own' }, links: 1 })
    assert.equal(readdirSync(dataFolder(layers.directory)).length, 1)
  })
})
