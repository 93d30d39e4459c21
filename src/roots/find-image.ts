/** Finds the images that a layer was bound to. */
import { NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import type { BoundImage, KeptImage } from './bind.ts'
import { createImageIndexes, type ImageIndex } from './image-index.ts'
import { readIdentity, readRootImage, type RootImage } from './root-image.ts'

/**
 * @returns the index, which the caller closes; undefined if the image is not there any more, or is
 *   another one
 */
export function findImage(
  image: BoundImage,
  keptImages: readonly KeptImage[] = [],
): ImageIndex | undefined {
  return ifFound(() =>
    readIdentity(image.directory) === image.identity ? openImages(image, keptImages) : undefined,
  )
}

/**
 * @param keptImages further images with store paths; those that are not there any more are left out
 * @returns the index, which the caller closes
 * @throws `NetimageError` if the image cannot be read
 */
export function openImages(
  { directory, name }: BoundImage,
  keptImages: readonly KeptImage[],
): ImageIndex {
  const kept: RootImage[] = []
  for (const other of keptImages) {
    const found = ifFound(() => readRootImage(other.directory, rootOf(other)))
    if (found?.id === other.identity) kept.push(found)
  }
  return createImageIndexes().open(readRootImage(directory, rootOf({ directory, name })), kept)
}

function rootOf({ directory, name }: Pick<KeptImage, 'directory' | 'name'>): string {
  return imageLayout(directory, name).root
}

function ifFound<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
}
