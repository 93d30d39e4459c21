/**
 * The write-ahead log of the database of a layer.
 *
 * SQLite commits to it without waiting for the disk (`synchronous = NORMAL`); `sync` waits for it. After
 * a loss of power, SQLite reads the frames of the log one after the other up to the last whole commit, so
 * each transaction whose log is on the disk is found.
 *
 * https://sqlite.org/walformat.html#recovery_algorithm
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync, openSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'

import { format } from './database-file.ts'
import { synced } from './failure.ts'
import { hasFrame } from './log-file.ts'

export interface LogOperations {
  /** Resolves once everything that was committed before is on the disk. @throws `SyncFailure` */
  sync(): Promise<void>
  /** As `sync`, but blocks. @throws an error of the system */
  syncNow(): void
  /**
   * From now on, commits do not empty the log. So they do not wait for the disk. The log grows until
   * `emptyLog` is called, which also cuts off a log that is much longer than others.
   */
  keepLog(): void
  /**
   * From now on, SQLite does not wait for the disk, and empties the log after each commit, so that it takes
   * little room. After a loss of power, nothing of the file can be used. After `close`, the caller syncs it.
   */
  leaveUnsynced(): void
  /** Whether the log should be emptied. */
  isLogLong(): boolean
  /**
   * Moves the log into the database, and lets it begin anew. SQLite would wait for the disk while everybody
   * waits. Until this resolves, nothing can be written.
   *
   * @returns false if the log stays, because the disk is full or rows are being read
   * @throws `SyncFailure`
   */
  emptyLog(): Promise<boolean>
  /**
   * Moves the log into the database before the database is closed, as `emptyLog`. Nobody may use the database
   * any more.
   *
   * @throws `SyncFailure`
   */
  moveLog(): Promise<void>
}

export interface WriteAheadLog {
  operations: LogOperations
  /** Whether the log has something that the disk failed to write to the database. */
  mustStay(): boolean
  close(): void
}

const fdatasyncAsync = promisify(fdatasync)
/** Pages. SQLite moves so many in some milliseconds. */
const longLog = 4096
/** Bytes. If a log was longer, it is cut off when it begins anew. Most logs are emptied before. */
const keptLog = 2 * longLog * 1024

/** @param file of the database, which has been opened */
export function openLog(database: DatabaseSync, file: string): WriteAheadLog {
  // The log exists as long as the database is open. The caller syncs the directory, so that the
  // name of the log is on the disk.
  const log = openSync(`${file}-wal`, 'r')
  let mustStay = false

  /**
   * Without waiting for the disk. What was synced of the log must be all of it.
   *
   * @returns whether all of the log is moved
   */
  function move(): boolean {
    try {
      database.exec('PRAGMA synchronous = OFF')
      const moved = database.prepare('PRAGMA wal_checkpoint(PASSIVE)').get()
      return moved?.['busy'] === 0 && moved['checkpointed'] === moved['log']
    } catch {
      // The disk is full, or a statement still reads.
      return false
    } finally {
      database.exec('PRAGMA synchronous = NORMAL')
    }
  }

  /**
   * Writes a frame at the beginning of the log, so that SQLite need not wait for the disk when it writes the next
   * one. If only a part of header and frame is on the disk after a loss of power, they do not match. Then the log
   * is empty, and everything is in the database.
   *
   * A log that is cut off is an exception: SQLite must wait until the new header is on the disk. If only the cut were
   * there, the log would begin with old transactions, which would replace newer pages of the database.
   */
  function beginLogAnew(): void {
    const isCut = fstatSync(log).size > keptLog
    try {
      database.exec(
        `PRAGMA synchronous = ${isCut ? 'NORMAL' : 'OFF'}; PRAGMA query_only = OFF; PRAGMA user_version = ${format}`,
      )
    } finally {
      database.exec('PRAGMA query_only = ON; PRAGMA synchronous = NORMAL')
    }
  }

  /** Moves the log and resolves once all of it is on the disk. @returns false if the log stays */
  async function moveAndSync(): Promise<boolean> {
    const data = openSync(file, 'r')
    try {
      await synced(fdatasyncAsync(log))
      if (!move()) return false
      await synced(fdatasyncAsync(data))
      return true
    } catch (error) {
      mustStay = true
      throw error
    } finally {
      closeSync(data)
    }
  }

  return {
    mustStay: () => mustStay,
    close: () => closeSync(log),
    operations: {
      syncNow: () => fdatasyncSync(log),
      sync: () => synced(fdatasyncAsync(log)),
      keepLog: () =>
        database.exec(`PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = ${keptLog}`),
      leaveUnsynced: () => database.exec('PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1'),
      isLogLong: () => hasFrame(log, longLog),
      async emptyLog() {
        database.exec('PRAGMA query_only = ON')
        try {
          if (!(await moveAndSync())) return false
          beginLogAnew()
          await synced(fdatasyncAsync(log))
          return true
        } finally {
          database.exec('PRAGMA query_only = OFF')
        }
      },
      async moveLog() {
        await moveAndSync()
      },
    },
  }
}
