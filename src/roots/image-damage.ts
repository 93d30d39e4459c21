/** Errors of an image that was changed while it was served. */
import { errnoOf, messageOf, NetimageError } from '../errors.ts'

/** A restart of the server alone would make it serve the changed files. */
export const repairHint =
  'Stop the server, add the image again with: netimage site add --repair IMAGE. Then start the server.'

/** @param file as the person knows it */
export function damaged(file: string, why: string, cause?: unknown): NetimageError {
  return new NetimageError('image-damaged', `${file} has changed while it was served: ${why}`, {
    ...(cause !== undefined && { cause }),
    details: { file },
    hint: repairHint,
  })
}

/** Errors of opening if the file is gone, or something else has its name. */
const otherFile = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EISDIR', 'EINVAL'])

/** Turns errors that mean that a file is gone or replaced into `image-damaged`. */
export function ifThere<T>(file: () => string, action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw ifGone(file, error)
  }
}

/** @returns `image-damaged` if the error means that the file is gone or replaced; otherwise the error */
export function ifGone(file: () => string, error: unknown): unknown {
  const errno = errnoOf(error)
  if (errno !== undefined && !otherFile.has(errno)) return error
  return damaged(file(), messageOf(error), error)
}
