/**
 * What leaves the pool: first out of sight, by a rename, then from the disk. A directory of another
 * user that cannot be removed is told and stays; nobody needs what is in it.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, NetimageError } from '../errors.ts'
import { tryLock, type Lock } from '../lock.ts'
import { removalCommand, tidy, type Warn } from '../tidy.ts'

const removedPrefix = 'removed-'

/** Takes something out of sight at once, to be removed when there is time. */
export function setAside(path: string, scratch: string): void {
  try {
    renameSync(path, join(scratch, `${removedPrefix}${randomBytes(6).toString('hex')}`))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** Takes away an entry that is known to be damaged: it must not be used, so this must succeed. */
export function setAsideDamaged(entry: string, scratch: string): void {
  try {
    setAside(entry, scratch)
  } catch (error) {
    throw new NetimageError(
      'file-system',
      `${entry} in the pool cannot be used, and cannot be removed`,
      {
        cause: error,
        hint: `It is damaged or may not be read, and belongs to another user. Remove it with: ${removalCommand(entry)}`,
      },
    )
  }
}

export function removeSetAside(scratch: string, warn: Warn): void {
  for (const name of readdirSync(scratch)) {
    if (name.startsWith(removedPrefix)) tidy(join(scratch, name), warn)
  }
}

/** The time at which a lease's build began, in milliseconds since 1970. */
export function leaseTime(lease: string): number {
  return Number.parseInt(lease, 10) || 0
}

/**
 * Ends the leases of builds that no longer run, and sets aside what they left. To be called with
 * the pool's lock held.
 *
 * @returns the leases of builds that run
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
 * A build holds its lease exclusively. A shared lock tells whether it does, and takes no permission
 * to write, which only the lease's owner has.
 */
function lockDead(lease: string): Lock | undefined {
  try {
    return tryLock(lease, 'shared')
  } catch {
    // Nobody can tell, so its build counts as running.
    return undefined
  }
}
