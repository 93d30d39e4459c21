// Binary caches with each compression, which other tests use. real-nix.test.ts tests one of them.

import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildShapesClosure } from './support/closures.ts'
import { assertGivesBack } from './support/nix-caches.ts'
import { compressions, createNixWorld, runProgram } from './support/real-nix.ts'

test('a cache of any compression gives the closure back', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'netimage-real-nix-'))
  const world = await createNixWorld(join(directory, 'world'))
  context.after(async () => {
    await world.remove()
    await runProgram('rm', ['-r', directory])
  })
  const closure = await buildShapesClosure(world)
  const key = await world.generateKey('test-1')
  // All at the same time, because brotli takes as long as all the others together.
  await Promise.all(
    compressions.map((compression) => assertGivesBack(world, closure, key, compression)),
  )
})
