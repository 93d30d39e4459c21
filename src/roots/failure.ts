/** Errors of the disk and of the database, as errors of the file system that machines see. */
import { isDatabaseFull } from '../database-error.ts'
import { errnoOf, isDiskFull, messageOf, NetimageError } from '../errors.ts'
import { FileSystemError, type FileSystemErrorCode } from '../protocols/nfs/file-system.ts'

/** @param until see `FileSystemError` */
export function failure(
  code: FileSystemErrorCode,
  message: string,
  until?: Promise<void>,
): FileSystemError {
  return new FileSystemError(code, message, until && { until })
}

/**
 * A sync failed: some written data may be lost, and we cannot find out which. The layer takes no
 * more changes after this error. An error before the sync began does not have this effect.
 */
export class SyncFailure extends FileSystemError {}

const passedOn: readonly FileSystemErrorCode[] = ['EDQUOT', 'EFBIG', 'ENOSPC']
/** Shortage of descriptors or memory, which may be over in a moment. */
const passing: readonly (string | undefined)[] = ['EMFILE', 'ENFILE', 'ENOMEM']

export function asFailure(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  return new FileSystemError(codeOf(error), messageOf(error), { cause: error })
}

/** Whether a system error says that the server lacks descriptors or memory at the moment. */
export function isPassing(error: unknown): boolean {
  return passing.includes(errnoOf(error))
}

function codeOf(error: unknown): FileSystemErrorCode {
  if (isDatabaseFull(error)) return 'ENOSPC'
  const errno = errnoOf(error)
  if (isPassing(error)) return 'EAGAIN'
  return passedOn.find((known) => known === errno) ?? 'EIO'
}

/** Waits for a sync. @throws `SyncFailure` */
export async function synced(syncing: Promise<void>): Promise<void> {
  try {
    await syncing
  } catch (error) {
    const code = codeOf(error)
    throw new SyncFailure(code === 'EAGAIN' ? 'EIO' : code, messageOf(error), { cause: error })
  }
}

/** Runs an action that uses the disk. @throws `FileSystemError` */
export function guarded<T>(action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw asFailure(error)
  }
}

/** Whether an operation failed because there was no room. */
export function isFull(error: unknown): boolean {
  const isKnown = error instanceof NetimageError && error.code === 'disk-full'
  return isKnown || isDiskFull(error) || isDatabaseFull(error)
}
