/**
 * The result codes of SQLite, told apart in this one place.
 *
 * https://sqlite.org/rescode.html
 */
import { messageOf, NetimageError } from './errors.ts'

/** SQLITE_BUSY */
const busy = 5
/** SQLITE_READONLY, SQLITE_CANTOPEN */
const forbidden = new Set([8, 14])
/** SQLITE_FULL */
const full = 13
/** SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB */
const broken = new Set([1, 11, 26])

/** Whether another process or connection holds a lock. */
export function isDatabaseBusy(error: unknown): boolean {
  return primaryCode(error) === busy
}

/** Whether the database may not be written to, or not even be opened. */
export function isDatabaseForbidden(error: unknown): boolean {
  const code = primaryCode(error)
  return code !== undefined && forbidden.has(code)
}

/** Whether no room is left for the database. */
export function isDatabaseFull(error: unknown): boolean {
  return primaryCode(error) === full
}

/** An extended code holds the primary code in its lowest byte: SQLITE_BUSY_SNAPSHOT is 517. */
function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error)) return undefined
  return typeof error.errcode === 'number' ? error.errcode & 0xff : undefined
}

/**
 * Why a database could not be opened: because of what it holds, or because of its disk.
 *
 * @param doing what was being done: `could not open x`
 * @param hint where it holds what it should not; not for a disk that fails, after which all is well
 */
export function databaseError(doing: string, cause: unknown, hint: string): NetimageError {
  const message = `${doing}: ${messageOf(cause)}`
  const code = primaryCode(cause)
  if (code === undefined || broken.has(code)) {
    return new NetimageError('bad-state', message, { cause, hint })
  }
  return new NetimageError(code === full ? 'disk-full' : 'file-system', message, {
    cause,
    hint: 'Nothing in it was changed: see to the disk, or name another directory with --state.',
  })
}
