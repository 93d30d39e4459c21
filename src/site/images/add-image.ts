/** Adds an image to a site: see image/site-places.ts. */
import { chmodSync, lstatSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { explained, fileSystemError, NetimageError } from '../../errors.ts'
import { imageLayout } from '../../image/layout.ts'
import { syncFileSystem } from '../../image/sync.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { makeScratch, whileChanging, type Watching } from './changing.ts'
import { copyOutside } from './copy-outside.ts'
import { adviceWithoutSync, fillStore, type FilledStore } from './fill-store.ts'
import type { SitePlaces } from '../../image/site-places.ts'
import { openSiteImage, type SiteImage } from './site-image.ts'
import { openSourceImage, type SourceImage } from './source.ts'

export interface AddedImage extends FilledStore {
  /** Held: the caller releases it. */
  image: SiteImage
  /** Whether the site did not have the image. */
  isNew: boolean
}

const fullDiskHint =
  'Make room, or name another directory with --state. Store paths that were added stay, and the next run continues from there.'

/**
 * Nothing that happens to the source image later changes the image in the site. If this process is
 * killed, finished store paths stay, and the next call continues from there.
 *
 * @param state the state directory, which must be closed to other users
 * @param source the directory of an image that `build` made
 * @throws `NetimageError` `not-an-image`, `image-damaged`, `bad-option`, `in-use`, `disk-full`
 */
export async function addImage(
  state: string,
  source: string,
  { signal = new AbortController().signal, progress = silentProgress }: Watching = {},
): Promise<AddedImage> {
  const held = await openSourceImage(source)
  try {
    return await whileChanging(state, { signal, progress }, async (places) => {
      const filled = await fillStore(held, places, signal, progress)
      const isNew = !lstatSync(join(places.images, held.id), { throwIfNoEntry: false })
      if (isNew) await addRest(held, places, signal, progress)
      return { ...filled, isNew, image: await openSiteImage(state, held.id) }
    })
  } catch (error) {
    if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    const doing = `could not add the image ${held.directory} to ${state}`
    throw asKnown(fileSystemError(doing, error, { hint: fullDiskHint }), held)
  } finally {
    held.release()
  }
}

/** The error with the name of the image that the person knows. */
function asKnown(error: Error, { heldPath, directory }: SourceImage): Error {
  if (!(error instanceof NetimageError) || !error.message.includes(heldPath)) return error
  const { file } = error.details
  return explained(error, error.message.replaceAll(heldPath, directory), {
    ...(file !== undefined && { file: file.replace(heldPath, directory) }),
  })
}

/** All but the store paths. */
async function addRest(
  source: SourceImage,
  places: SitePlaces,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  const scratch = makeScratch(places, (message) => progress.warn(message))
  try {
    const image = join(scratch.directory, 'image')
    mkdirSync(image)
    await copyOutside(source, image)
    const layout = imageLayout(image, source.options.rootDirectoryName)
    mkdirSync(join(image, 'nix-support'))
    writeFileSync(layout.manifest, source.manifestBytes)
    chmodSync(layout.manifest, 0o444)
    writeFileSync(layout.lock, '')
    await syncFileSystem(image, signal, progress, adviceWithoutSync)
    signal.throwIfAborted()
    renameSync(image, join(places.images, source.id))
    syncDirectory(places.images)
  } finally {
    scratch.remove()
  }
}
