// Files that a site gives a machine while its layer is bound.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import type { NetimageError } from '../../src/errors.ts'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import type { SiteFiles } from '../../src/roots/bind-site-files.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, seen, treeOf } from './support/bound-layer.ts'
import { beforeDiskSteps } from './support/disk-steps.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'

const freshName = freshNames(modelDirectory())
const pair = ['etc/ssh/key', 'etc/ssh/key.pub'] as const

function files(text: string, problems: string[] = []): () => SiteFiles {
  return () => ({
    ifMissing: ['key', 'key.pub'].map((name, place) => ({
      ...{ path: ['etc', 'ssh', name], mode: place === 0 ? 0o600 : 0o644 },
      bytes: Buffer.from(`${text} ${place}`),
    })),
    onProblem: (error: NetimageError) => problems.push(error.message),
  })
}

const textsOf = (system: FileSystem) => pair.map((path) => read(system, path))
const given = (text: string) => [`${text} 0`, `${text} 1`]

suite('a machine', () => {
  test('gets the files at its first boot, and keeps its own', async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/hostname': 'x' }))
    await layers.within(
      image,
      (system) => {
        assert.deepEqual(textsOf(system), given('first'))
        const [key, pub, directory] = [...pair, 'etc/ssh'].map((path) =>
          system.attributes(find(system, path) ?? assert.fail(path)),
        )
        assert.partialDeepStrictEqual(key, { mode: 0o600, uid: 0, gid: 0, links: 1, size: 7 })
        assert.partialDeepStrictEqual(pub, { mode: 0o644, uid: 0, gid: 0 })
        assert.partialDeepStrictEqual(directory, { mode: 0o755, uid: 0, gid: 0, links: 2 })
        put(system, pair[1], 'own')
      },
      { siteFiles: files('first') },
    )
    const other = layers.image('b', treeOf({ 'etc/hostname': 'y' }))
    for (const [again, boot] of [
      [image, 'again'],
      [other, 'updated'],
    ] as const) {
      const options = { binding: boot, siteFiles: files('second') }
      const texts = await layers.within(again, textsOf, options)
      assert.deepEqual(texts, ['first 0', 'ownst 1'])
    }
  })

  test('gets them in place of an empty file, and of a public half', async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/ssh/key.pub': 'of the image', 'etc/ssh/x': '' }))
    await layers.within(image, (system) => void put(system, pair[0], ''))
    const texts = await layers.within(image, textsOf, { siteFiles: files('new') })
    assert.deepEqual(texts, given('new'))
    // The next image does not have the file any more.
    const next = layers.image('b', treeOf({ 'etc/ssh/x': '' }))
    assert.deepEqual(await layers.within(next, textsOf), given('new'))
  })

  test('gets none while it runs', async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({}))
    const options = { binding: 'one boot' }
    await layers.within(image, () => {}, options)
    const again = { ...options, siteFiles: files('late') }
    assert.deepEqual(await layers.within(image, textsOf, again), [undefined, undefined])
  })

  test('is led to no other place by links, and boots all the same', async () => {
    const problems: string[] = []
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ etc: '-> home', 'home/ssh/': '' }))
    const first = await layers.within(image, seen, { siteFiles: files('x', problems) })
    assert.deepEqual([...first.keys()], ['etc', 'home', 'home/ssh'])
    assert.equal(problems.length, 2)
    assert.match(problems[0] ?? '', /^\/etc\/ssh\/key cannot be given .*: something above it/)
    // A link with the name of the file is the machine's own.
    const own = layers.image('b', treeOf({ 'etc/ssh/key': '-> /home/key', 'home/x': 'x' }))
    const second = await layers.within(own, seen, { siteFiles: files('x', problems) })
    assert.equal(second.has('etc/ssh/key.pub'), false)
    assert.equal(problems.length, 2)
    const others = makeBoundLayers(freshName())
    const taken = others.image('c', treeOf({ 'etc/ssh/key.pub/x': '' }))
    await others.within(taken, (system) => assert.equal(read(system, pair[0]), 'x 0'), {
      siteFiles: files('x', problems),
    })
    assert.match(problems[2] ?? '', /key\.pub cannot be given .*: it is a directory there$/)
  })
})

test('a binding that is killed at any step has given all of the files, or none', async () => {
  const layers = makeBoundLayers(freshName())
  const image = layers.image('a', treeOf({ 'etc/ssh/key.pub': 'of the image' }))
  await layers.within(image, (system) => void put(system, pair[0], ''))
  const copies: string[] = []
  beforeDiskSteps(() => {
    const copy = freshName()
    mkdirSync(copy)
    cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
    copies.push(copy)
  })
  const bound = layers.open(image, 'given', [], undefined, files('new'))
  beforeDiskSteps()
  await bound.close()
  const found = new Set<string>()
  for (const copy of copies) {
    const cut = layers.at(copy)
    // As it was left.
    const left = cut.open(image, 'given')
    const texts = textsOf(left.fileSystem)
    await left.close()
    found.add(JSON.stringify(texts))
    const options = { binding: 'again', siteFiles: files('new') }
    assert.deepEqual(await cut.within(image, textsOf, options), given('new'))
  }
  assert.deepEqual(
    [...found].toSorted(),
    [JSON.stringify(['', 'of the image']), JSON.stringify(given('new'))].toSorted(),
  )
})
