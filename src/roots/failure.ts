/** Errors of the disk and of the database as those of the file system that machines see. */
import { isDatabaseFull } from '../database-error.ts'
import { errnoOf, messageOf } from '../errors.ts'
import { FileSystemError, type FileSystemErrorCode } from '../protocols/nfs/file-system.ts'

export function failure(code: FileSystemErrorCode, message: string): FileSystemError {
  return new FileSystemError(code, message)
}

/**
 * The disk failed to write what it had been given: that may be lost, and nothing tells what else is.
 * Only this is the end of a layer; an error before anything was tried is not.
 */
export class SyncFailure extends FileSystemError {}

const passedOn: readonly FileSystemErrorCode[] = ['EDQUOT', 'EFBIG', 'ENOSPC']
/** What others may give back in a moment: descriptors and memory. */
const passing: readonly (string | undefined)[] = ['EMFILE', 'ENFILE', 'ENOMEM']

export function asFailure(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  return new FileSystemError(codeOf(error), messageOf(error), { cause: error })
}

function codeOf(error: unknown): FileSystemErrorCode {
  if (isDatabaseFull(error)) return 'ENOSPC'
  const errno = errnoOf(error)
  if (passing.includes(errno)) return 'EAGAIN'
  return passedOn.find((known) => known === errno) ?? 'EIO'
}

/** Waits for the disk. @throws `SyncFailure` */
export async function synced(syncing: Promise<void>): Promise<void> {
  try {
    await syncing
  } catch (error) {
    const code = codeOf(error)
    throw new SyncFailure(code === 'EAGAIN' ? 'EIO' : code, messageOf(error), { cause: error })
  }
}

/** Runs what touches the disk. */
export function guarded<T>(action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw asFailure(error)
  }
}
