/** Why a database could not be opened: for what it holds, or for the disk that it is on. */
import { messageOf, NetimageError } from './errors.ts'

/** SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB: https://sqlite.org/rescode.html */
const broken = new Set([1, 11, 26])
/** SQLITE_FULL */
const full = 13

/**
 * @param doing what was being done: `could not open x`
 * @param hint where it holds what it should not; not for a disk that fails, after which all is well
 */
export function databaseError(doing: string, cause: unknown, hint: string): NetimageError {
  const message = `${doing}: ${messageOf(cause)}`
  // What stands above the lowest byte says more of the same.
  const code = cause instanceof Error && 'errcode' in cause && Number(cause.errcode) & 0xff
  if (typeof code !== 'number' || broken.has(code)) {
    return new NetimageError('bad-state', message, { cause, hint })
  }
  return new NetimageError(code === full ? 'disk-full' : 'file-system', message, {
    cause,
    hint: 'Nothing in it was changed: see to the disk, or name another directory with --state.',
  })
}
