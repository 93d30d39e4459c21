/** Adds an image to a site: see image/site-places.ts. */
import { lstatSync } from 'node:fs'
import { join } from 'node:path'

import { explained, fileSystemError, NetimageError } from '../../errors.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { makeScratch, sweep, whileChanging, type Watching } from './changing.ts'
import { copyOutside } from './copy-outside.ts'
import { fillStore, type FilledStore } from './fill-store.ts'
import type { SitePlaces } from '../../image/site-places.ts'
import type { Who } from '../log/entry.ts'
import { noteInSite } from '../log/note-in-site.ts'
import { isRestWhole, lockAll } from './repair.ts'
import { makeRest, placeRest } from './rest.ts'
import { imageIds, openSiteImage, type SiteImage } from './site-image.ts'
import { openSourceImage, type SourceImage } from './source.ts'

export interface AddedImage extends FilledStore {
  /** Held: the caller releases it. */
  image: SiteImage
  /** Whether the site did not have the image. */
  isNew: boolean
  /** Whether something had changed in the site and was replaced. */
  isRepaired: boolean
}

export interface AddSettings extends Watching {
  /**
   * Whether to hash also what the site has of the image, and to replace what has changed. Nothing is
   * replaced while a server uses an image of the site. Default: false.
   */
  repair?: boolean | undefined
  /** Who adds the image, for the log of the site. Default: the server. */
  who?: Who | undefined
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
  {
    signal = new AbortController().signal,
    progress = silentProgress,
    repair = false,
    who = { kind: 'server' },
  }: AddSettings = {},
): Promise<AddedImage> {
  const held = await openSourceImage(source)
  try {
    return await whileChanging(state, { signal, progress }, async (places) => {
      using stack = new DisposableStack()
      let isLocked = false
      const lockSite = (changed: readonly string[]) => {
        if (isLocked) return
        const lock = lockAll(places, imageIds(state), changed)
        stack.defer(() => lock.release())
        isLocked = true
      }
      const directory = join(places.images, held.id)
      const isNew = !lstatSync(directory, { throwIfNoEntry: false })
      const hasChanged = !isNew && repair && !(await isRestWhole(places, held.id))
      if (hasChanged) lockSite([directory])
      const filled = await fillStore(held, places, { signal, progress, repair, lockSite })
      const isRepaired = hasChanged || filled.repaired > 0
      const note = async () => {
        if (!isNew && !isRepaired) return
        const kind = isNew ? 'added' : 'repaired'
        const entry = { kind, image: held.id, imageName: held.options.rootDirectoryName } as const
        await noteInSite(state, { at: Date.now(), who, entry })
      }
      if (isNew || hasChanged) await addRest(held, places, { signal, progress, note })
      else await note()
      if (hasChanged) sweep(places, (message) => progress.warn(message))
      stack.dispose()
      return { ...filled, isNew, isRepaired, image: await openSiteImage(state, held.id) }
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

interface AddingRest {
  signal: AbortSignal
  progress: Progress
  /** Adds the row to the log of the site. */
  note: () => Promise<void>
}

/** All but the store paths, which the site must have. Replaces what the site has. */
async function addRest(
  source: SourceImage,
  places: SitePlaces,
  { signal, progress, note }: AddingRest,
): Promise<void> {
  const scratch = makeScratch(places, (message) => progress.warn(message))
  try {
    const fill = (image: string) => copyOutside(source, image)
    const made = await makeRest(scratch, source, { signal, progress, fill })
    await placeRest(made, source.id, places, note)
  } finally {
    scratch.remove()
  }
}
