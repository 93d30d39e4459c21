/** The images of a server. */
import { resolve } from 'node:path'

import { NetimageError } from '../errors.ts'
import { readImage } from '../image/manifest.ts'
import { addImage } from '../site/images/add-image.ts'
import type { Watching } from '../site/images/changing.ts'
import { mustBeServable, openServedImage, type ServedImage } from './served-image.ts'

export interface ImagesRequest extends Watching {
  /** The state directory. */
  state: string
  /** Directories that `build` made. */
  directories: readonly string[]
  /** The URL of the boot trees, with a slash at its end. */
  http: string
}

/**
 * Adds the images to the site, so that they do not change while machines run from them.
 *
 * @param unfinished releases the images at its end
 * @throws `NetimageError` if an image cannot be served, or two images are for one platform
 */
export async function openImages(
  { state, directories, http, ...watching }: ImagesRequest,
  unfinished: AsyncDisposableStack,
): Promise<ServedImage[]> {
  for (const directory of directories) {
    // Before anything is copied.
    const { options } = await readImage(resolve(directory), directory)
    mustBeServable(options, directory)
  }
  const images: ServedImage[] = []
  for (const directory of directories) {
    const added = await addImage(state, directory, watching)
    const image = openServedImage(added.image, http)
    unfinished.defer(() => image.release())
    images.push(image)
  }
  refuseSameRoots(images)
  return images
}

/** Two images for one platform are refused: a machine could not choose the root that it mounts. */
function refuseSameRoots(images: readonly ServedImage[]): void {
  for (const [index, image] of images.entries()) {
    const other = images
      .slice(0, index)
      .find(
        ({ platform, directory }) => platform === image.platform && directory !== image.directory,
      )
    if (!other) continue
    throw new NetimageError(
      'bad-option',
      `${other.name} and ${image.name} are both for ${image.platform}`,
      {
        hint: 'Serve only one image for each kind of processor. Serve the other from another server.',
      },
    )
  }
}
