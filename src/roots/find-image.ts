/** Finds the images that a layer was bound to. */
import { errnoOf, explained, NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import type { BoundImage, KeptImage } from './bound-image.ts'
import { repairHint } from './image-damage.ts'
import { createImageIndexes, type ImageIndex } from './image-index.ts'
import { readId, readRootImage, type RootImage } from './root-image.ts'
import { doNow, type Steps } from './steps.ts'

/**
 * @returns the index, which the caller closes; undefined if the image is not there any more, or is
 *   another one
 * @throws `NetimageError` or a system error if the image is there and cannot be read: then it must not
 *   count as gone, because a layer loses what only the image has
 */
export function* findInSteps(
  image: BoundImage,
  keptImages: readonly KeptImage[] = [],
): Steps<ImageIndex | undefined> {
  const found = ifFound(() => readId(image.directory))
  return found === image.id ? yield* openInSteps(image, keptImages) : undefined
}

/**
 * @param keptImages further images with store paths; those that are not there any more are left out
 * @returns the index, which the caller closes
 * @throws `NetimageError` or a system error if an image cannot be read
 */
export function openImages(image: BoundImage, keptImages: readonly KeptImage[]): ImageIndex {
  return doNow(openInSteps(image, keptImages))
}

/** As `openImages`. */
function* openInSteps(
  { directory, name }: BoundImage,
  keptImages: readonly KeptImage[],
): Steps<ImageIndex> {
  const kept: RootImage[] = []
  for (const other of keptImages) {
    const found = ifFound(() => readRootImage(other.directory, rootOf(other)))
    if (found?.id === other.id) kept.push(found)
  }
  const root = readRootImage(directory, rootOf({ directory, name }))
  try {
    return yield* createImageIndexes().openInSteps(root, kept)
  } catch (error) {
    if (!(error instanceof NetimageError && error.code === 'image-damaged')) throw error
    const hint = `${repairHint} The machine waits meanwhile. If you cannot repair the image, remove ${directory}: the machine then loses the files of the image that it has named.`
    throw explained(error, error.message, {}, hint)
  }
}

function rootOf({ directory, name }: Pick<KeptImage, 'directory' | 'name'>): string {
  return imageLayout(directory, name).root
}

/** @returns undefined if the image has no manifest */
function ifFound<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    const errno = error instanceof NetimageError ? errnoOf(error.cause) : undefined
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined
    throw error
  }
}
