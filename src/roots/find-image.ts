/** Finds the image that a layer was bound to. */
import { NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import type { BoundImage } from './bind.ts'
import { readImageIndex, type ImageIndex } from './image-index.ts'
import { readIdentity } from './root-image.ts'

/**
 * @returns the index, which the caller closes; undefined if the image is not there any more, or is
 *   another one
 */
export function findImage({ directory, name, identity }: BoundImage): ImageIndex | undefined {
  try {
    if (readIdentity(directory) !== identity) return undefined
    return readImageIndex(directory, imageLayout(directory, name).root)
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
}
