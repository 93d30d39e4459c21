// The binary caches of every compression that other tests stand on; one is in real-nix.test.ts.

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
  // Brotli takes as long as all the others together, hence side by side.
  await Promise.all(
    compressions.map((compression) => assertGivesBack(world, closure, key, compression)),
  )
})
