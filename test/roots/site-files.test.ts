// Files that a site gives a machine while its layer is bound.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import type { NetimageError } from '../../src/errors.ts'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import type { SiteFiles } from '../../src/roots/bind-site-files.ts'
import { mounted } from '../support/namespace.ts'
import { freshNames } from '../support/temporary.ts'
import { makeBoundLayers, seen, treeOf } from './support/bound-layer.ts'
import { beforeDiskSteps } from './support/disk-steps.ts'
import { modelDirectory } from './support/layer-model.ts'
import { find, put, read } from './support/stored-layers.ts'

const run = promisify(execFile)
const freshName = freshNames(modelDirectory())
const pair = ['etc/ssh/key', 'etc/ssh/key.pub'] as const

const path = ['etc', 'netimage', 'secrets']
const at = path.join('/')

function secretFiles(secrets: Record<string, string>, problems: string[] = []): () => SiteFiles {
  return () => ({
    ifMissing: [],
    directory: {
      ...{ path, modes: { directory: 0o500, file: 0o400 } },
      files: Object.entries(secrets).map(([name, text]) => ({
        ...{ name: Buffer.from(name), bytes: Buffer.from(text) },
      })),
    },
    onProblem: (error: NetimageError) => problems.push(error.message),
  })
}

function files(text: string, problems: string[] = []): () => SiteFiles {
  return () => ({
    ...secretFiles({}, problems)(),
    ifMissing: ['key', 'key.pub'].map((name, place) => ({
      ...{ path: ['etc', 'ssh', name], mode: place === 0 ? 0o600 : 0o644 },
      bytes: Buffer.from(`${text} ${place}`),
    })),
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
    const other = layers.image('b', treeOf({ x: 'x' }))
    for (const each of [image, other]) {
      assert.deepEqual(await layers.within(each, textsOf, again), [undefined, undefined])
    }
  })

  test('is led to no other place by links, and boots all the same', async () => {
    const problems: string[] = []
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ etc: '-> home', 'home/ssh/': '' }))
    const first = await layers.within(image, seen, { siteFiles: files('x', problems) })
    assert.deepEqual([...first.keys()], ['etc', 'home', 'home/ssh'])
    assert.equal(problems.length, 2)
    assert.match(
      problems[0] ?? '',
      /^\/etc\/ssh\/key cannot be given .*: it, or something above it/,
    )
    // A link with the name of the file is the machine's own.
    const own = layers.image('b', treeOf({ 'etc/ssh/key': '-> /home/key', 'home/x': 'x' }))
    const second = await layers.within(own, seen, { siteFiles: files('x', problems) })
    assert.equal(second.has('etc/ssh/key.pub'), false)
    assert.equal(problems.length, 2)
  })

  test('gets none of them if a directory has the name of one', async () => {
    for (const [place, name] of pair.entries()) {
      const problems: string[] = []
      const layers = makeBoundLayers(freshName())
      const image = layers.image('a', treeOf({ [`${name}/x`]: '' }))
      const seenThere = await layers.within(image, seen, { siteFiles: files('x', problems) })
      assert.equal(seenThere.has(pair[1 - place] ?? ''), false)
      // The private half is the machine's own then, and nothing is to be given.
      assert.equal(problems.length, place)
      if (place === 0) continue
      assert.match(problems[0] ?? '', /key\.pub cannot be given .*: it is a directory there$/)
      const whole = layers.image('b', treeOf({ 'etc/hostname': '' }))
      assert.deepEqual(
        await layers.within(whole, textsOf, { siteFiles: files('new') }),
        given('new'),
      )
    }
  })
})

suite('the directory of a machine for its secrets', () => {
  /** All that the machine sees below it, with the numbers of its files. */
  function secretsIn(system: FileSystem) {
    const directory = find(system, at)
    if (directory === undefined) return undefined
    const { mode, uid, gid, links } = system.attributes(directory)
    assert.deepEqual({ mode, uid, gid, links }, { mode: 0o500, uid: 0, gid: 0, links: 2 })
    const found: Record<string, string> = {}
    const nodes: number[] = []
    for (const { name, node } of system.list(directory, 0)) {
      const { mode, uid, gid, kind, links } = system.attributes(node)
      const expected = { mode: 0o400, uid: 0, gid: 0, kind: 'file', links: 1 }
      assert.deepEqual({ mode, uid, gid, kind, links }, expected)
      found[name.toString()] = read(system, `${at}/${name.toString()}`) ?? ''
      nodes.push(node)
    }
    return { found, nodes }
  }

  test('has what the site has at each boot, and nothing else', async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/hostname': 'x', [`${at}/of-the-image`]: 'i' }))
    const boot = (secrets: Record<string, string>, action: (system: FileSystem) => void) =>
      layers.within(image, action, { siteFiles: secretFiles(secrets) })
    let before: number[] | undefined
    await boot({ a: '1', b: '2', empty: '' }, (system) => {
      const secrets = secretsIn(system)
      assert.deepEqual(secrets?.found, { a: '1', b: '2', empty: '' })
      before = secrets.nodes
    })
    await boot({ a: '1', b: '2', empty: '' }, (system) => {
      const secrets = secretsIn(system)
      // They are not written again.
      assert.deepEqual(secrets?.nodes, before)
      const directory = find(system, at) ?? assert.fail()
      const made = { kind: 'directory', mode: 0o755, uid: 7, gid: 7 } as const
      const own = system.create(directory, Buffer.from('own'), made)
      system.create(own, Buffer.from('deeper'), made)
      put(system, `${at}/own/file`, 'own')
      put(system, `${at}/c`, 'own')
      put(system, `${at}/a`, 'changed by the machine')
      system.setAttributes(find(system, `${at}/b`) ?? 0, { mode: 0o644, uid: 7 })
      system.setAttributes(directory, { mode: 0o777, uid: 7 })
      system.link(find(system, `${at}/empty`) ?? 0, directory, Buffer.from('link'))
      system.rename(directory, Buffer.from('c'), system.root, Buffer.from('moved'))
    })
    await boot({ a: '1', b: '3', own: 'of the site' }, (system) => {
      assert.deepEqual(secretsIn(system)?.found, { a: '1', b: '3', own: 'of the site' })
      assert.equal(read(system, 'moved'), 'own')
    })
    await boot({}, (system) => assert.deepEqual(secretsIn(system)?.found, {}))
  })

  test('is not made if there are no secrets', async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/hostname': 'x' }))
    const tree = await layers.within(image, seen, { siteFiles: secretFiles({}) })
    assert.deepEqual([...tree.keys()], ['etc', 'etc/hostname'])
  })

  test('gives nothing through a link, and the machine boots all the same', async () => {
    const problems: string[] = []
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/netimage': '-> ../home', 'home/secrets/x': 'x' }))
    const siteFiles = secretFiles({ a: 'secret', b: 'secret' }, problems)
    const tree = await layers.within(image, seen, { siteFiles })
    assert.deepEqual(
      [...tree.keys()],
      ['etc', 'etc/netimage', 'home', 'home/secrets', 'home/secrets/x'],
    )
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /^\/etc\/netimage\/secrets cannot be given to the machine/)
  })
})

const kills: {
  what: string
  of: (system: FileSystem) => unknown
  before: [() => SiteFiles, unknown]
  after: [() => SiteFiles, unknown]
}[] = [
  {
    what: 'given all files of a pair',
    of: textsOf,
    before: [secretFiles({}), ['', 'of the image']],
    after: [files('new'), given('new')],
  },
  {
    what: 'changed all secrets',
    of: (system) => ['a', 'b', 'c'].map((name) => read(system, `${at}/${name}`)),
    before: [secretFiles({ a: '1', b: '2' }), ['1', '2', undefined]],
    after: [secretFiles({ b: '3', c: '4' }), [undefined, '3', '4']],
  },
]
for (const { what, of, before, after } of kills) {
  test(`a binding that is killed at any step has ${what}, or none`, async () => {
    const layers = makeBoundLayers(freshName())
    const image = layers.image('a', treeOf({ 'etc/ssh/key.pub': 'of the image' }))
    await layers.within(image, (system) => void put(system, pair[0], ''), { siteFiles: before[0] })
    const copies: string[] = []
    beforeDiskSteps(() => {
      const copy = freshName()
      mkdirSync(copy)
      cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
      copies.push(copy)
    })
    const bound = layers.open(image, 'given', [], undefined, after[0])
    beforeDiskSteps()
    await bound.close()
    const found = new Set<string>()
    for (const copy of copies) {
      const cut = layers.at(copy)
      // As it was left.
      const left = cut.open(image, 'given')
      found.add(JSON.stringify(of(left.fileSystem)))
      await left.close()
      const options = { binding: 'again', siteFiles: after[0] }
      assert.deepEqual(await cut.within(image, of, options), after[1])
    }
    const expected = [before[1], after[1]].map((each) => JSON.stringify(each))
    assert.deepEqual([...found].toSorted(), expected.toSorted())
  })
}

test('on a full disk a machine gets all files of its site, or waits', async () => {
  const disk = freshName()
  mkdirSync(disk)
  const [command = '', ...args] = mounted('mount -t tmpfs -o size=3m disk "$1"', disk)
  const program = join(import.meta.dirname, 'support/full-site-files-program.ts')
  const { stdout } = await run(command, [...args, process.execPath, program, disk])
  assert.match(stdout, /^refused [1-9]\d*, given\n$/)
})
