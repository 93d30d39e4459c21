/** The images of the site. An image never changes, so each is read once. */
import { asNetimageError, NetimageError } from '../errors.ts'
import { nextPiece } from '../roots/steps.ts'
import { imageIds, listedImage, type ListedImage } from '../site/images/site-image.ts'
import { together } from '../together.ts'

export interface ShownImages {
  /** In the order in which they were added. */
  images: readonly ListedImage[]
  /** Images that cannot be read. */
  damaged: readonly { id: string; code: string; message: string }[]
}

/** @throws `NetimageError` */
export type ReadImages = () => Promise<ShownImages>

export function createReadImages(state: string): ReadImages {
  let known = new Map<string, ListedImage | NetimageError>()

  return together(async () => {
    const found = new Map<string, ListedImage | NetimageError>()
    for (const id of imageIds(state)) {
      const before = known.get(id)
      // A manifest has a line for each store path.
      if (!before) await nextPiece()
      found.set(id, before ?? readOne(state, id))
    }
    known = found
    const all = [...found.entries()]
    return {
      images: all
        .flatMap(([, image]) => (image instanceof NetimageError ? [] : [image]))
        .sort((one, other) => one.added - other.added),
      damaged: all.flatMap(([id, error]) =>
        error instanceof NetimageError ? [{ id, code: error.code, message: error.message }] : [],
      ),
    }
  })
}

function readOne(state: string, id: string): ListedImage | NetimageError {
  try {
    return listedImage(state, id)
  } catch (error) {
    return asNetimageError(error)
  }
}
