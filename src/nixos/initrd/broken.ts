import { NetimageError, type ErrorDetails } from '../../errors.ts'

/** The error of an initrd that the kernel cannot unpack. */
export function brokenInitrd(
  why: string,
  details: ErrorDetails = {},
  cause?: unknown,
): NetimageError {
  return new NetimageError('bad-system', `the initrd is broken: ${why}`, { cause, details })
}
