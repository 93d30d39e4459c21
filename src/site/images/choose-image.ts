/** Finds the image of a site that a person names. */
import { NetimageError } from '../../errors.ts'
import { listSiteImages, type ListedImage } from './site-image.ts'

/**
 * @param named the beginning of an id, or the name of a root tree
 * @throws `NetimageError` `path-not-found`; `bad-usage` if several images match
 */
export function chooseSiteImage(state: string, named: string): ListedImage {
  const images = listSiteImages(state, () => {})
  const found = images.filter(({ id, name }) => name === named || startsId(named, id))
  const [first, ...others] = found
  if (first && others.length === 0) return first
  if (first) {
    throw new NetimageError('bad-usage', `${named} names ${found.length} images of ${state}`, {
      details: { file: state, expected: named },
      hint: `Name one of them by its id: ${found.map(({ id }) => id.slice(0, shownDigits)).join(', ')}.`,
    })
  }
  throw new NetimageError('path-not-found', `the site ${state} has no image ${named}`, {
    details: { file: state, expected: named },
    hint: 'List its images with: netimage site images. Add one with: netimage site add.',
  })
}

/** Enough digits of an id to tell the images of a site apart. */
export const shownDigits = 12

function startsId(text: string, id: string): boolean {
  return text.length >= 4 && id.startsWith(text)
}
