/**
 * Removes entries and leftovers from the pool. A rename first moves them away, then they are
 * deleted. If a directory of another user cannot be deleted, we warn, and it stays. No build uses
 * it.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, NetimageError } from '../errors.ts'
import { tryLock, type Lock } from '../lock.ts'
import { removalCommand, tidy, type Warn } from '../tidy.ts'

const removedPrefix = 'removed-'

/** Moves a path away at once. `removeSetAside` deletes it later. */
export function setAside(path: string, scratch: string): void {
  try {
    renameSync(path, join(scratch, `${removedPrefix}${randomBytes(6).toString('hex')}`))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** Moves a damaged entry away. A failure is an error, because nobody may use the entry. */
export function setAsideDamaged(entry: string, scratch: string): void {
  try {
    setAside(entry, scratch)
  } catch (error) {
    throw new NetimageError(
      'file-system',
      `could not remove the unusable entry ${entry} from the pool`,
      {
        cause: error,
        hint: `It is damaged or unreadable, and it belongs to another user. Remove it with: ${removalCommand(entry)}`,
      },
    )
  }
}

export function removeSetAside(scratch: string, warn: Warn): void {
  for (const name of readdirSync(scratch)) {
    if (name.startsWith(removedPrefix)) tidy(join(scratch, name), warn)
  }
}

/** The start of a lease's build, in milliseconds since 1970. */
export function leaseTime(lease: string): number {
  return Number.parseInt(lease, 10) || 0
}

/**
 * Ends the leases of builds that no longer run, and sets their leftovers aside. The caller must
 * hold the pool's lock.
 *
 * @returns the leases of running builds
 */
export function endDeadLeases(folders: { leases: string; scratch: string }, warn: Warn): string[] {
  const living: string[] = []
  for (const lease of readdirSync(folders.leases)) {
    const file = join(folders.leases, lease)
    const lock = lockDead(file)
    if (!lock) {
      living.push(lease)
      continue
    }
    const left = join(folders.scratch, lease)
    if (tidy(left, warn, (path) => setAside(path, folders.scratch))) tidy(file, warn)
    lock.release()
  }
  return living
}

/**
 * A build holds an exclusive lock on its lease. So a shared lock fails while the build runs. We do
 * not try an exclusive lock, because only the owner of the lease may write to it.
 *
 * @returns undefined if the build still runs
 */
function lockDead(lease: string): Lock | undefined {
  try {
    return tryLock(lease, 'shared')
  } catch {
    // We cannot tell, so assume that the build runs.
    return undefined
  }
}
