/** An image of a site, open for use. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { holdImage } from '../../image/image-lock.ts'
import { imageLayout, manifestName } from '../../image/layout.ts'
import { parseManifest, type ReadImage } from '../../image/manifest.ts'
import { readRootImage, type RootImage } from '../../roots/root-image.ts'
import { isImageId, sitePlaces } from '../../image/site-places.ts'

export interface SiteImage extends ReadImage {
  /** The hash of the manifest, in base16. */
  id: string
  /** The absolute path of the image in the site. */
  directory: string
  bootTree: string
  /** Where its files are for the roots of machines. */
  rootImage: RootImage
  /** Allows the image to be removed from the site. */
  release(): void
}

/**
 * Keeps the image and its store paths in the site until `release`.
 *
 * @throws `NetimageError` `path-not-found` if the site has no such image; `image-damaged`
 */
export async function openSiteImage(state: string, id: string): Promise<SiteImage> {
  const places = sitePlaces(state)
  const directory = join(places.images, id)
  const held = isImageId(id) ? await holdImage(directory).catch(orUndefined) : undefined
  if (!held) {
    throw new NetimageError('path-not-found', `the site ${state} has no image ${id}`, {
      details: { file: state, expected: id },
      hint: 'List its images with: netimage site images. Add one with: netimage site add.',
    })
  }
  try {
    const read = readSiteManifest(directory, id)
    const layout = imageLayout(directory, read.options.rootDirectoryName)
    const rootImage = readRootImage(directory, layout.root)
    const release = () => held.release()
    return { ...read, id, directory, bootTree: layout.boot, rootImage, release }
  } catch (error) {
    held.release()
    throw error
  }
}

function orUndefined(error: unknown): undefined {
  if (error instanceof NetimageError && error.code === 'not-an-image') return undefined
  throw error
}

/** @throws `NetimageError` `image-damaged` if the manifest is not the one with this hash */
export function readSiteManifest(directory: string, id: string): ReadImage {
  const file = join(directory, manifestName)
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    throw fileSystemError(`could not read the manifest of the image ${id}`, error)
  }
  const actual = createHash('sha256').update(bytes).digest('hex')
  if (actual === id) return parseManifest(bytes.toString(), file)
  throw new NetimageError('image-damaged', `the manifest ${file} has changed`, {
    details: { file, expected: id, actual },
    hint: `Remove the directory ${directory}, and add the image again: netimage site add.`,
  })
}

export interface ListedImage {
  id: string
  /** The name of its root tree. */
  name: string
  label: string
  /** As Nix names it: `aarch64-linux`. */
  platform: string
  toplevel: string
  /** Milliseconds since 1970. */
  added: number
  storePaths: number
  /** The size of the NARs of all its store paths. */
  narBytes: number
}

/**
 * The images in the order in which they were added.
 *
 * @param onDamaged is told about images that cannot be read; these are left out
 */
export function listSiteImages(
  state: string,
  onDamaged: (error: NetimageError) => void,
): ListedImage[] {
  return imageIds(state)
    .flatMap((id) => {
      try {
        return listedImage(state, id)
      } catch (error) {
        if (!(error instanceof NetimageError)) throw error
        onDamaged(error)
        return []
      }
    })
    .sort((a, b) => a.added - b.added)
}

/** @throws `NetimageError` */
export function listedImage(state: string, id: string): ListedImage {
  const directory = join(sitePlaces(state).images, id)
  const { manifest } = readSiteManifest(directory, id)
  const { toplevel, label, platform } = manifest.system
  return {
    ...{ id, name: manifest.options.rootDirectoryName, label, platform, toplevel },
    added: statSync(join(directory, manifestName)).mtimeMs,
    storePaths: manifest.closure.length,
    narBytes: manifest.closure.reduce((sum, { narSize }) => sum + narSize, 0),
  }
}

/** Does not look into the images. */
export function imageIds(state: string): string[] {
  const { images } = sitePlaces(state)
  try {
    return readdirSync(images).filter(isImageId)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw fileSystemError(`could not read ${images}`, error)
  }
}
