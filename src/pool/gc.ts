/** Removes the entries of the pool that no build uses now or has used for some time. */
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { entryFile, parseEntry } from './entry.ts'
import { tidy, type Warn } from '../tidy.ts'
import { poolFolders, withPoolLock } from './pool.ts'
import { endDeadLeases, leaseTime, removeSetAside, setAside } from './removal.ts'

export interface CollectedGarbage {
  removedPaths: number
  /** The size of the removed NARs in bytes. */
  removedBytes: number
  keptPaths: number
}

const dayMs = 24 * 60 * 60 * 1000
/** Time stamps of a file system may be slightly behind the clock. */
const clockSlackMs = 2000

/**
 * @param keepDays keeps the entries that a build used within this number of days
 * @param warn gets a message about each file that could not be removed
 * @param signal ends the wait for other builds that use the pool
 */
export async function collectGarbage(
  pool: string,
  keepDays: number,
  warn: Warn = () => undefined,
  signal?: AbortSignal,
): Promise<CollectedGarbage> {
  if (!(keepDays >= 0)) {
    throw new NetimageError(
      'bad-option',
      `could not collect garbage: ${keepDays} is not a number of days`,
    )
  }
  const folders = poolFolders(resolve(pool))
  const result: CollectedGarbage = { removedPaths: 0, removedBytes: 0, keptPaths: 0 }
  try {
    if (!lstatSync(folders.trees, { throwIfNoEntry: false })) return result
    // Another process may be making the pool now, so these folders may be missing.
    for (const folder of [folders.scratch, folders.leases]) makeDirectory(folder)
    // Under the lock, only rename the entries. Builds need not wait for the slow removal.
    const collect = () => {
      const living = endDeadLeases(folders, warn)
      const needed = Math.min(...living.map(leaseTime)) - clockSlackMs
      const cutoff = Math.min(Date.now() - keepDays * dayMs, needed)
      for (const name of readdirSync(folders.trees)) {
        const entry = join(folders.trees, name)
        const stat = lstatSync(entry, { throwIfNoEntry: false })
        // A build may have removed a damaged entry: that does not take this lock.
        if (!stat) continue
        const bytes = stat.mtimeMs < cutoff ? narBytes(entry) : 0
        if (stat.mtimeMs < cutoff) tidy(entry, warn, (path) => setAside(path, folders.scratch))
        if (lstatSync(entry, { throwIfNoEntry: false })) result.keptPaths++
        else {
          result.removedBytes += bytes
          result.removedPaths++
        }
      }
    }
    await withPoolLock(folders.lock, 'exclusive', collect, signal)
    removeSetAside(folders.scratch, warn)
  } catch (error) {
    throw fileSystemError(`could not collect the garbage of the pool ${pool}`, error)
  }
  return result
}

function narBytes(entry: string): number {
  try {
    return parseEntry(readFileSync(join(entry, entryFile), 'utf8'))?.narSize ?? 0
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
}
