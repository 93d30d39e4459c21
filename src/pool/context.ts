/** The working parts that bring store paths into the pool, and read them there. */
import type { StoreAccess } from '../nix/closure.ts'
import type { Progress } from '../progress.ts'
import type { Pool } from './pool.ts'
import type { Workers } from './workers.ts'

export interface PoolContext {
  access: StoreAccess
  pool: Pool
  workers: Workers
  signal: AbortSignal
  progress: Progress
}
