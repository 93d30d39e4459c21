/**
 * The result codes of SQLite. Only this module reads them.
 *
 * https://sqlite.org/rescode.html
 */
import { errnoOf, messageOf, NetimageError, type NetimageErrorOptions } from './errors.ts'

/** SQLITE_BUSY */
const busy = 5
/** SQLITE_READONLY, SQLITE_CANTOPEN */
const forbidden = new Set([8, 14])
/** SQLITE_FULL */
const full = 13
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

/** Whether the file is no database, or has a part that cannot be read as one. */
export function isDatabaseBroken(error: unknown): boolean {
  // An integer that no JavaScript number can hold. We never write one.
  if (errnoOf(error) === 'ERR_OUT_OF_RANGE') return true
  const code = primaryCode(error)
  return code !== undefined && broken.has(code)
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
      hint: 'Make room on that disk, or name another directory with --state. The database was not changed.',
    })
  }
  return new NetimageError('file-system', message, {
    cause,
    details,
    hint: 'The database was not changed. Check the disk, or name another directory with --state.',
  })
}
