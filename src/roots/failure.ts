/** Errors of the disk and of the database as those of the file system that machines see. */
import { isDatabaseFull } from '../database-error.ts'
import { errnoOf, messageOf } from '../errors.ts'
import { FileSystemError, type FileSystemErrorCode } from '../protocols/nfs/file-system.ts'

export function failure(code: FileSystemErrorCode, message: string): FileSystemError {
  return new FileSystemError(code, message)
}

const passedOn: readonly FileSystemErrorCode[] = ['EDQUOT', 'EFBIG', 'ENOSPC']

export function asFailure(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  const errno = errnoOf(error)
  const code = isDatabaseFull(error)
    ? 'ENOSPC'
    : (passedOn.find((known) => known === errno) ?? 'EIO')
  return new FileSystemError(code, messageOf(error), { cause: error })
}

/** Runs what touches the disk. */
export function guarded<T>(action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw asFailure(error)
  }
}
