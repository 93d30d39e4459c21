// Tests of the fixtures that other tests use. If one of these fails, look here first.

import assert from 'node:assert/strict'
import { lstat, mkdtemp, readdir, readlink, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { buildShapesClosure } from './support/closures.ts'
import type { ShapesClosure } from './support/closures.ts'
import { assertGivesBack } from './support/nix-caches.ts'
import { createNixWorld, runProgram } from './support/real-nix.ts'
import type { NixKey, NixWorld } from './support/real-nix.ts'

suite('real Nix', () => {
  let directory: string
  let world: NixWorld
  let closure: ShapesClosure
  let key: NixKey

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'netimage-real-nix-'))
    world = await createNixWorld(join(directory, 'world'))
    closure = await buildShapesClosure(world)
    key = await world.generateKey('test-1')
  })
  after(async () => {
    world.remove()
    await runProgram('rm', ['-r', directory])
  })

  const shape = (name: string) => {
    const storePath = closure.shapes[name]
    assert.ok(storePath, `closures.nix has no shape "${name}"`)
    return storePath
  }
  const realShape = (name: string) => world.realPath(shape(name))
  const infoOf = async (name: string) => {
    const [info] = await world.pathInfo([shape(name)])
    assert.ok(info)
    return info
  }

  test('the closure of everything has every shape', () => {
    assert.ok(closure.paths.includes(closure.everything))
    for (const [name, path] of Object.entries(closure.shapes)) {
      assert.ok(closure.paths.includes(path), name)
    }
  })

  test('unusual names (bytes, spaces, case, length) are on the disk as Nix made them', async () => {
    const bytes = await readdir(realShape('notUtf8Names'), { encoding: 'buffer' })
    assert.ok(bytes.some((name) => name.equals(Buffer.from('caf\xe9', 'latin1'))))
    const names = await readdir(realShape('oddNames'))
    for (const name of ['a b', 'new\nline', '~', '.hidden', 'README', 'readme', 'n'.repeat(255)]) {
      assert.ok(names.includes(name), name)
    }
  })

  test('store paths that are not directories', async () => {
    assert.ok((await lstat(realShape('symlink'))).isSymbolicLink())
    assert.equal(await readlink(realShape('danglingSymlink')), '/does/not/exist')
    assert.equal((await stat(realShape('emptyFile'))).size, 0)
    assert.equal((await stat(realShape('executableFile'))).mode & 0o777, 0o555)
    assert.equal((await stat(realShape('file'))).mode & 0o777, 0o444)
  })

  test('references: to itself, to many paths, and of a text file', async () => {
    for (const name of ['selfReference', 'selfReferenceRewritten']) {
      assert.deepEqual((await infoOf(name)).references, [shape(name)])
    }
    assert.equal((await infoOf('manyReferences')).references.length, 100)
    assert.equal((await infoOf('textWithReferences')).references.length, 2)
  })

  test('content addresses of every kind', async () => {
    const expected = {
      text: /^text:sha256:/,
      textWithReferences: /^text:sha256:/,
      flatSha256: /^fixed:sha256:/,
      flatSha512: /^fixed:sha512:/,
      recursiveSha256: /^fixed:r:sha256:/,
      recursiveSha1: /^fixed:r:sha1:/,
      sourceFlat: /^fixed:sha256:/,
      sourceTree: /^fixed:r:sha256:/,
      selfReferenceRewritten: /^fixed:r:sha256:/,
    }
    for (const [name, pattern] of Object.entries(expected)) {
      assert.match((await infoOf(name)).ca ?? '', pattern, name)
    }
    assert.equal((await infoOf('selfReference')).ca ?? undefined, undefined)
  })

  // image/real-nix-image.slow.ts builds images from a cache of each compression.
  test('a cache gives the closure back', () => assertGivesBack(world, closure, key, 'zstd'))

  test('a world that trusts a key refuses what that key has not signed', async () => {
    const cache = join(directory, 'cache-unsigned')
    // Content-addressed paths need no signature, so this must be one that is not.
    await world.copyToCache([shape('file')], cache, { compression: 'none' })
    const other = await createNixWorld(join(directory, 'other-unsigned'), {
      trustedPublicKeys: [key.publicKey],
    })
    await assert.rejects(other.copyFromCache([shape('file')], cache), /lacks a .*signature/)
    other.remove()
  })

  test('a signature can be added to a path of the store', async () => {
    const { secretKeyFile } = await world.generateKey('test-2')
    await world.sign([shape('file')], secretKeyFile)
    const { signatures } = await infoOf('file')
    assert.ok(signatures.some((signature) => signature.startsWith('test-2:')))
  })
})

test('a missing program is an error that names its Debian package', async () => {
  await assert.rejects(
    runProgram('nix-store', [], { environment: { PATH: '/nonexistent' } }),
    /^Error: The program "nix-store" is missing: install the Debian package nix-bin\.$/,
  )
})
