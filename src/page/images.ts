/** The images of the site. An image never changes, so each is read once, unless it cannot be read. */
import { asNetimageError } from '../errors.ts'
import { nextPiece } from '../roots/steps.ts'
import { imageIds, listedImage, type ListedImage } from '../site/images/site-image.ts'
import { together } from '../together.ts'

export interface ShownImages {
  /** In the order in which they were added. */
  images: readonly ListedImage[]
  /** Images that cannot be read. */
  broken: readonly { id: string; code: string; message: string }[]
}

/** @throws `NetimageError` */
export type ReadImages = () => Promise<ShownImages>

export function createReadImages(state: string): ReadImages {
  let known = new Map<string, ListedImage>()

  return together(async () => {
    const found = new Map<string, ListedImage>()
    const broken = []
    for (const id of imageIds(state)) {
      const before = known.get(id)
      // A manifest has a line for each store path.
      if (!before) await nextPiece()
      try {
        found.set(id, before ?? listedImage(state, id))
      } catch (error) {
        const { code, message } = asNetimageError(error)
        broken.push({ id, code, message })
      }
    }
    known = found
    return { images: [...found.values()].sort((one, other) => one.added - other.added), broken }
  })
}
