/**
 * The result codes of SQLite. Only this module reads them.
 *
 * https://sqlite.org/rescode.html
 */
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs'

import {
  errnoOf,
  messageOf,
  NetimageError,
  quotaHint,
  type NetimageErrorOptions,
} from './errors.ts'

/** SQLITE_BUSY */
const busy = 5
/** SQLITE_READONLY, SQLITE_CANTOPEN */
const forbidden = new Set([8, 14])
/** SQLITE_FULL */
const full = 13
/** SQLITE_IOERR_WRITE */
const writeFailed = 778
/** SQLITE_IOERR_SHMSIZE: there was no room for the index of the log, which lies in a file beside it. */
const noRoomForIndex = 4874
/**
 * SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_CONSTRAINT (an index that does not agree with its table),
 * SQLITE_NOTADB
 */
const broken = new Set([1, 11, 19, 26])

/** Whether another process or connection holds a lock. */
export function isDatabaseBusy(error: unknown): boolean {
  return primaryCode(error) === busy
}

/** Whether this user may not write to the database, or cannot even open it. */
export function isDatabaseForbidden(error: unknown): boolean {
  const code = primaryCode(error)
  return code !== undefined && forbidden.has(code)
}

/** Whether the disk of the database is full. */
export function isDatabaseFull(error: unknown): boolean {
  return primaryCode(error) === full || codeOf(error) === noRoomForIndex
}

/** An error as that of SQLite for a full disk. */
export function databaseFull(why: string, options?: ErrorOptions): Error {
  return Object.assign(new Error(why, options), { errcode: full })
}

/** Whether this is an error of SQLite. */
export function isDatabaseError(error: unknown): boolean {
  return codeOf(error) !== undefined
}

/** Whether the file is no database, or has a part that cannot be read as one. */
export function isDatabaseBroken(error: unknown): boolean {
  // An integer that no JavaScript number can hold. We never write one.
  if (errnoOf(error) === 'ERR_OUT_OF_RANGE') return true
  const code = primaryCode(error)
  return code !== undefined && broken.has(code)
}

/**
 * SQLite does not tell a quota that is used up (EDQUOT) from a disk that fails. So this tries to write
 * beside the database.
 *
 * @returns the error, or if a quota is used up, the error of a full disk
 */
export function withQuota(error: unknown, file: string): unknown {
  if (codeOf(error) !== writeFailed || !isQuotaUsedUp(file)) return error
  return databaseFull('the quota is used up', { cause: error })
}

/** More than a file can keep in its inode. */
const tried = Buffer.alloc(65_536)

function isQuotaUsedUp(file: string): boolean {
  const scratch = `${file}-try-${randomBytes(6).toString('hex')}`
  try {
    const descriptor = openSync(scratch, 'wx', 0o600)
    try {
      // First, so that nothing stays if this process is killed.
      unlinkSync(scratch)
      writeSync(descriptor, tried)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    return false
  } catch (error) {
    return errnoOf(error) === 'EDQUOT'
  }
}

/** An extended code holds the primary code in its lowest byte: SQLITE_BUSY_SNAPSHOT is 517. */
function primaryCode(error: unknown): number | undefined {
  const code = codeOf(error)
  return code === undefined ? undefined : code & 0xff
}

function codeOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error)) return undefined
  return typeof error.errcode === 'number' ? error.errcode : undefined
}

/**
 * The error for a database that failed: either its content is broken, or its disk failed.
 *
 * @param doing what was being done: `could not open x`
 * @param options the details, and the hint if the content is broken
 */
export function databaseError(
  doing: string,
  cause: unknown,
  { details = {}, hint }: Pick<NetimageErrorOptions, 'details' | 'hint'>,
): NetimageError {
  const message = `${doing}: ${messageOf(cause)}`
  const code = primaryCode(cause)
  if (code === undefined || broken.has(code)) {
    return new NetimageError('bad-state', message, { cause, details, hint })
  }
  if (isDatabaseFull(cause)) {
    return new NetimageError('disk-full', `${doing}: the disk is full`, {
      ...{ cause, details },
      hint: `Make room on that disk, or name another directory with --state. ${quotaHint} The database was not changed.`,
    })
  }
  return new NetimageError('file-system', message, {
    cause,
    details,
    hint: 'The database was not changed. Check the disk, or name another directory with --state.',
  })
}
