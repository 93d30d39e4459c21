// Dumps and restores every shape of store path that Nix can make.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { parseHash } from '../../../src/nix/hash.ts'
import { dumpNar } from '../../../src/nix/nar/dump.ts'
import { createNarParser } from '../../../src/nix/nar/parse.ts'
import { restoreTo } from '../../../src/nix/nar/restore.ts'
import { buildShapesClosure } from '../../support/closures.ts'
import type { ShapesClosure } from '../../support/closures.ts'
import { createNixWorld } from '../../support/real-nix.ts'
import type { NixWorld } from '../../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'

suite('a store path of every shape', () => {
  const directory = temporaryDirectory()
  const fresh = freshNames(directory)
  let world: NixWorld
  let closure: ShapesClosure

  before(async () => {
    world = await createNixWorld(join(directory, 'world'))
    closure = await buildShapesClosure(world)
  })

  test('has the NAR hash that Nix registered', async () => {
    const infos = await world.pathInfo(closure.paths)
    assert.ok(infos.length > 100)
    for (const { path, narHash, narSize } of infos) {
      const hash = createHash('sha256')
      let size = 0
      dumpNar(world.realPath(path), (chunk) => {
        hash.update(chunk)
        size += chunk.length
      })
      assert.equal(size, narSize, path)
      assert.equal(hash.digest('hex'), parseHash(narHash)?.hex, path)
    }
  })

  test('is restored with the same names, contents, modes and times', () => {
    for (const [shape, path] of Object.entries(closure.shapes)) {
      const original = world.realPath(path)
      const restored = fresh()
      const parser = createNarParser(restoreTo(restored))
      dumpNar(original, (chunk) => parser.write(chunk))
      parser.end()
      assert.ok(describeTree(original).length > 0, shape)
      assertSameLines(describeTree(restored), describeTree(original))
    }
  })
})
