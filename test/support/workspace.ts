// A directory of its own for each test, with everything that netimage keeps below it.

import { mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runProgram } from './real-nix.ts'

// Tests start hundreds of processes and worker threads, which need not strip the same types anew.
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../../node_modules/.cache/compile')

export type Workspace = {
  directory: string
  path: (...names: string[]) => string
  /** What `-o` names; nothing is there yet. It has a parent of its own, to see what is left in it. */
  image: string
  pool: string
  /** Names beside and in the place of the image. */
  outputs: () => string[]
  /** What builds have not finished or not cleaned up: empty between builds. */
  leftovers: () => string[]
  /** The store paths that were finished, by NAR hash. */
  pooled: () => string[]
  remove: () => Promise<void>
}

export function makeWorkspace(name: string, parent = tmpdir()): Workspace {
  const directory = mkdtempSync(join(parent, `netimage-${name}-`))
  const path = (...names: string[]) => join(directory, ...names)
  const [outputs, pool] = [path('out'), path('pool')]
  mkdirSync(outputs)
  return {
    directory,
    path,
    image: join(outputs, 'image'),
    pool,
    outputs: () => names(outputs),
    leftovers: () => [
      ...names(join(pool, 'scratch')).map((name) => `scratch/${name}`),
      ...names(join(pool, 'leases')).map((name) => `leases/${name}`),
      ...names(outputs)
        .filter((name) => name.startsWith('.'))
        .map((name) => `out/${name}`),
    ],
    pooled: () => names(join(pool, 'trees')),
    remove: () => removeTree(directory),
  }
}

/** Store paths are read-only, so that a plain `rm` fails for ordinary users. */
export async function removeTree(directory: string): Promise<void> {
  await runProgram('sh', ['-c', 'chmod -R u+rwX "$1" && rm -rf "$1"', 'sh', directory])
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory).toSorted()
  } catch {
    return []
  }
}
