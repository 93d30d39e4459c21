/** The images of a server. */
import { NetimageError } from '../errors.ts'
import { openServedImage, type ServedImage } from './served-image.ts'

/**
 * @param directories of images that `build` made
 * @param http the URL of the boot trees, with a slash at its end
 * @param unfinished releases the images at its end
 * @throws `NetimageError` if an image cannot be served, or two images are for one platform
 */
export async function openImages(
  directories: readonly string[],
  http: string,
  unfinished: AsyncDisposableStack,
): Promise<ServedImage[]> {
  const images: ServedImage[] = []
  for (const directory of directories) {
    const image = await openServedImage(directory, http)
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
