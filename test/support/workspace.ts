// A separate directory for each test, with all files of netimage.

import { mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeTree } from '../../src/remove-tree.ts'
import { useCompileCache } from './compile-cache.ts'

useCompileCache()

export type Workspace = {
  directory: string
  path: (...names: string[]) => string
  /** The path for `-o`. It does not exist yet. Its parent is separate, so tests see leftovers. */
  image: string
  pool: string
  /** The names in the parent directory of the image. */
  outputs: () => string[]
  /** Unfinished files and leftovers of builds; empty between builds. */
  leftovers: () => string[]
  /** The finished entries of the pool, by NAR hash. */
  pooled: () => string[]
  /** A plain `rm` fails for ordinary users, because store paths are read-only. */
  remove: () => void
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

function names(directory: string): string[] {
  try {
    return readdirSync(directory).toSorted()
  } catch {
    return []
  }
}
