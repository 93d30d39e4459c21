/** The working parts that bring store paths into the pool, and read them there. */
import type { StoreAccess } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import type { Progress } from '../progress.ts'
import type { Pool } from './pool.ts'
import type { Workers } from './workers.ts'

export interface PoolContext {
  access: StoreAccess
  pool: Pool
  workers: Workers
  signal: AbortSignal
  progress: Progress
  /** Tells for which paths to look for secrets while they are unpacked. Not set: for none. */
  isSearched?: ((info: PathInfo) => boolean) | undefined
}
