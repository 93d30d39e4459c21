import { NetimageError } from '../../errors.ts'

/** An initrd that no kernel could unpack either. */
export function brokenInitrd(why: string, cause?: unknown): NetimageError {
  return new NetimageError('bad-system', `the initrd is broken: ${why}`, { cause })
}
