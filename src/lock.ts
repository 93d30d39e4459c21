/**
 * Locks that end with their process, however it ends.
 *
 * Node has no flock(2), but SQLite locks its files with fcntl(2), which the kernel releases when a
 * process dies. So a lock is a SQLite file (which stays empty) with a transaction open on it.
 */
import { closeSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'

import { isDatabaseBusy, isDatabaseForbidden } from './database-error.ts'
import { errnoOf, NetimageError } from './errors.ts'

export interface Lock {
  release(): void
}

/** To hold the lock with others, a user needs to read the file; to hold it alone, to write to it. */
export type LockKind = 'shared' | 'exclusive'

/**
 * Takes the lock if it is free, and makes its file if there is none.
 *
 * @returns undefined if others hold the lock
 * @throws `NetimageError` `not-allowed` if this user cannot hold it like that; errors of the system
 */
export function tryLock(file: string, kind: LockKind): Lock | undefined {
  makeIfMissing(file)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file, { timeout: 0 })
    // Even an empty transaction would begin a file beside this one, which others mistake for the
    // remains of a crash.
    database.exec('PRAGMA journal_mode = MEMORY')
    // A transaction takes its shared lock with the first read.
    if (kind === 'shared') database.exec('BEGIN; SELECT count(*) FROM sqlite_schema')
    // SQLite makes a shared lock of an exclusive one, and says nothing, if it may not write to the
    // file. Only a change fails then. This one never reaches the file, for nothing commits it.
    else database.exec('BEGIN EXCLUSIVE; PRAGMA user_version = 1')
    const opened = database
    return { release: () => opened.close() }
  } catch (error) {
    database?.close()
    if (isDatabaseBusy(error)) return undefined
    if (isDatabaseForbidden(error)) throw notAllowed(file, kind, error)
    throw error
  }
}

const [firstPauseMs, longestPauseMs] = [5, 100]

/**
 * Waits for the lock, while everything else in this process goes on.
 *
 * @returns undefined if others still hold it after `waitMs` milliseconds
 * @throws as `tryLock`; the reason of the signal once that is aborted
 */
export async function waitForLock(
  file: string,
  kind: LockKind,
  waitMs: number,
  signal?: AbortSignal,
): Promise<Lock | undefined> {
  const end = performance.now() + waitMs
  for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, longestPauseMs)) {
    signal?.throwIfAborted()
    const lock = tryLock(file, kind)
    if (lock || performance.now() >= end) return lock
    await sleep(pause, undefined, signal && { signal }).catch(() => signal?.throwIfAborted())
  }
}

/**
 * A file that is there is never opened here: the kernel takes away all locks that a process has on
 * a file when the process closes any descriptor of that file. [fcntl(2)]
 */
function makeIfMissing(file: string): void {
  try {
    closeSync(openSync(file, 'ax'))
  } catch (error) {
    if (!['EEXIST', 'EACCES', 'EROFS', 'EPERM'].includes(errnoOf(error) ?? '')) throw error
  }
}

function notAllowed(file: string, kind: LockKind, cause: unknown): NetimageError {
  const what = kind === 'shared' ? 'read' : 'written to'
  return new NetimageError('not-allowed', `${file} cannot be locked: it may not be ${what}`, {
    cause,
    hint: 'Run this as the user that the file belongs to, or name another directory.',
  })
}
