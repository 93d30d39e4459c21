/**
 * Locks that end with their process, even if the process is killed.
 *
 * Node has no flock(2). But SQLite locks its files with fcntl(2), and the kernel releases such
 * locks when a process dies. So a lock is an open transaction on a SQLite file, which stays empty.
 */
import { closeSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'

import { isDatabaseBusy, isDatabaseForbidden } from './database-error.ts'
import { errnoOf, NetimageError } from './errors.ts'

export interface Lock {
  release(): void
}

/** A shared lock needs permission to read the file, an exclusive lock needs permission to write. */
export type LockKind = 'shared' | 'exclusive'

/**
 * Takes the lock if it is free, and makes its file if there is none.
 *
 * @returns undefined if others hold the lock
 * @throws `NetimageError` `not-allowed` if this user may not take this kind of lock; system errors
 */
export function tryLock(file: string, kind: LockKind): Lock | undefined {
  makeIfMissing(file)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file, { timeout: 0 })
    // Otherwise even an empty transaction would create a journal file, and other processes would
    // take that file for the remains of a crash.
    database.exec('PRAGMA journal_mode = MEMORY')
    // A transaction takes its shared lock with the first read.
    if (kind === 'shared') database.exec('BEGIN; SELECT count(*) FROM sqlite_schema')
    // If SQLite may not write to the file, it silently takes a shared lock instead. Only a change
    // fails then. So make a change: it never reaches the file, because nothing commits it.
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
 * Waits for the lock without blocking this process.
 *
 * @returns undefined if others still hold it after `waitMs` milliseconds
 * @throws as `tryLock` does; the reason of the signal if the signal is aborted
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
 * Never opens an existing file: when a process closes any descriptor of a file, the kernel releases
 * all locks that the process has on that file. [fcntl(2)]
 */
function makeIfMissing(file: string): void {
  try {
    closeSync(openSync(file, 'ax'))
  } catch (error) {
    if (!['EEXIST', 'EACCES', 'EROFS', 'EPERM'].includes(errnoOf(error) ?? '')) throw error
  }
}

function notAllowed(file: string, kind: LockKind, cause: unknown): NetimageError {
  const access = kind === 'shared' ? 'read it' : 'write to it'
  return new NetimageError('not-allowed', `could not lock ${file}: this user may not ${access}`, {
    cause,
    hint: 'Run this as the owner of the file, or name another directory.',
  })
}
