/** Removes from the pool what has not been used for some time, and no running build needs. */
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { entryFile, parseEntry } from './entry.ts'
import { bury, buryDeadLeases, leaseTime, poolFolders, removeGraves, withPoolLock } from './pool.ts'

export interface CollectedGarbage {
  removedPaths: number
  /** NAR bytes of what was removed. */
  removedBytes: number
  keptPaths: number
}

const dayMs = 24 * 60 * 60 * 1000
/** Time stamps of a file system may lag behind the clock by a tick. */
const clockSlackMs = 2000

export function collectGarbage(pool: string, keepDays: number): CollectedGarbage {
  const folders = poolFolders(resolve(pool))
  const result: CollectedGarbage = { removedPaths: 0, removedBytes: 0, keptPaths: 0 }
  try {
    if (!lstatSync(folders.trees, { throwIfNoEntry: false })) return result
    // A pool that is being made this moment may not have them yet.
    for (const folder of [folders.scratch, folders.leases]) makeDirectory(folder)
    // Under the lock entries are only renamed; the removal itself keeps nobody waiting.
    withPoolLock(folders.lock, 'exclusive', () => {
      const living = buryDeadLeases(folders)
      const needed = Math.min(...living.map(leaseTime)) - clockSlackMs
      const cutoff = Math.min(Date.now() - keepDays * dayMs, needed)
      for (const name of readdirSync(folders.trees)) {
        const entry = join(folders.trees, name)
        if (lstatSync(entry).mtimeMs >= cutoff) {
          result.keptPaths++
          continue
        }
        result.removedBytes += narBytes(entry)
        result.removedPaths++
        bury(entry, folders.scratch)
      }
    })
    removeGraves(folders)
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
