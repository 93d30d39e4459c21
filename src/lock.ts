/**
 * Locks that end with their process, however it ends.
 *
 * Node has no flock(2), but SQLite locks its files with fcntl(2), which the kernel releases when a
 * process dies. So a lock is a SQLite file (which stays empty) with a transaction open on it.
 */
import { DatabaseSync } from 'node:sqlite'

import { isDatabaseBusy } from './database-error.ts'

export interface Lock {
  release(): void
}

/**
 * @param waitMs how long to wait for others
 * @returns undefined where others still hold the lock after that time
 */
export function acquireLock(
  file: string,
  kind: 'shared' | 'exclusive',
  waitMs: number,
): Lock | undefined {
  const database = new DatabaseSync(file, { timeout: waitMs })
  try {
    // Even an empty transaction would begin a file beside this one, which others mistake for the
    // remains of a crash.
    database.exec('PRAGMA journal_mode = MEMORY')
    // A transaction takes its shared lock with the first read.
    if (kind === 'shared') database.exec('BEGIN; SELECT count(*) FROM sqlite_schema')
    else database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (isDatabaseBusy(error)) return undefined
    throw error
  }
  return { release: () => database.close() }
}
