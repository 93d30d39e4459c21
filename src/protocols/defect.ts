import { messageOf, NetimageError } from '../errors.ts'

/**
 * @param protocol its name, as people know it
 * @returns an error that no machine caused: a defect of netimage
 */
export function defect(protocol: string, error: unknown): NetimageError {
  return new NetimageError('internal', `${protocol}: ${messageOf(error)}`, { cause: error })
}
