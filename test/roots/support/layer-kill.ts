// Kills the server of a layer: everything that it had given to the kernel survives.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { startProgram } from '../../e2e/support/program.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { cutAgainAndAgain } from './layer-cut.ts'
import { writeImageTree } from './layer-operations.ts'

const work = join(import.meta.dirname, 'layer-work-program.ts')

export async function killAgainAndAgain({
  rounds,
  seed,
}: {
  rounds: number
  seed: number
}): Promise<void> {
  process.umask(0)
  const directory = temporaryDirectory()
  const [image = '', local = '', layer = ''] = ['image', 'local', 'layer'].map((name) =>
    join(directory, name),
  )
  writeImageTree(image)
  execFileSync('cp', ['-a', image, local])
  const done = await cutAgainAndAgain({
    ...{ rounds, seed, local, longestMs: 200 },
    start: () =>
      startProgram({
        name: 'work',
        command: [process.execPath, work, layer, image, String(seed)],
        log: join(directory, 'log'),
        others: () => [],
      }),
  })
  // The server was not killed before it had begun.
  assert.ok(done > 10 * rounds, String(done))
}
