/** Writes to a database to which other processes write at the same time. */
import type { DatabaseSync } from 'node:sqlite'

import { isDatabaseBusy } from '../database-error.ts'

/** How often it is tried again to write while another process writes. Milliseconds. */
const againMs = 1
const never = new Int32Array(new SharedArrayBuffer(4))

interface Waits {
  /** How long all other statements wait. */
  timeout: number
  waitMs: number
}

/**
 * Many processes may want to write at the same time, each only for a moment. SQLite itself would look
 * less and less often whether it may write, so a process that has waited long would wait for ever longer.
 */
function beginToWrite(database: DatabaseSync, { timeout, waitMs }: Waits): void {
  database.exec('PRAGMA busy_timeout = 0')
  try {
    tryWhileBusy(waitMs, () => database.exec('BEGIN IMMEDIATE'))
  } finally {
    database.exec(`PRAGMA busy_timeout = ${timeout}`)
  }
}

/** Tries it again and again while another process uses the database. @throws after this time */
export function tryWhileBusy(waitMs: number, action: () => void): void {
  const end = performance.now() + waitMs
  for (;;) {
    const isLast = performance.now() >= end
    try {
      action()
      return
    } catch (error) {
      if (isLast || !isDatabaseBusy(error)) throw error
    }
    Atomics.wait(never, 0, 0, againMs)
  }
}

/** Makes all changes of the action, or none. @throws what the action throws */
export function inTransaction<T>(database: DatabaseSync, waits: Waits, action: () => T): T {
  beginToWrite(database, waits)
  try {
    const result = action()
    database.exec('COMMIT')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}
