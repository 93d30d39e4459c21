/** Removes the images and store paths of a site that nothing keeps. */
import { readdirSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'

import { fileSystemError } from '../../errors.ts'
import { lockName } from '../../image/layout.ts'
import { tryLock, type Lock } from '../../lock.ts'
import { silentProgress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { nameForRemoved, sweep, whileChanging, type Watching } from './changing.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { imageIds, readSiteManifest } from './site-image.ts'

export interface RemovedUnused {
  removedImages: string[]
  /** Images that nothing keeps, but that a running server uses. */
  inUse: string[]
  removedStorePaths: number
}

/**
 * If this fails, no image was removed.
 *
 * @param kept tells which images to keep. It is called twice. The second time, nobody can begin to use
 *   an image that was not kept the first time. So no image is removed that a machine has just been
 *   given, and nobody waits for the first call, which can take long
 * @throws `NetimageError` `image-damaged` if the manifest of an image that stays cannot be read
 */
export async function removeUnused(
  state: string,
  kept: () => ReadonlySet<string>,
  { signal, progress = silentProgress }: Watching = {},
): Promise<RemovedUnused> {
  try {
    return await whileChanging(state, { signal, progress }, (places) => {
      const { needed, ...result } = removeImages(state, places, kept)
      const removedStorePaths = removeStorePaths(places, needed)
      sweep(places, (message) => progress.warn(message))
      return { ...result, removedStorePaths }
    })
  } catch (error) {
    throw fileSystemError(`could not remove unused images of ${state}`, error)
  }
}

function removeImages(
  state: string,
  places: SitePlaces,
  kept: () => ReadonlySet<string>,
): Pick<RemovedUnused, 'removedImages' | 'inUse'> & { needed: Set<string> } {
  const ids = imageIds(state)
  const keptAtFirst = kept()
  const locks = new Map<string, Lock | undefined>()
  try {
    for (const id of ids.filter((each) => !keptAtFirst.has(each))) {
      locks.set(id, tryLock(join(places.images, id, lockName), 'exclusive'))
    }
    const keep = kept()
    const unused = [...locks].filter(([id]) => !keep.has(id))
    const inUse = unused.filter(([, lock]) => !lock).map(([id]) => id)
    const removedImages = unused.filter(([, lock]) => lock).map(([id]) => id)
    // Before anything is removed, because the manifest of an image may be damaged.
    const needed = storePathsOf(
      places,
      ids.filter((id) => !removedImages.includes(id)),
    )
    for (const id of removedImages) {
      renameSync(join(places.images, id), nameForRemoved(places.images))
    }
    // Before any of their store paths are removed: otherwise an image that came back after a loss of
    // power would not be whole.
    syncDirectory(places.images)
    return { removedImages, inUse, needed }
  } finally {
    for (const lock of locks.values()) lock?.release()
  }
}

/** @returns the names of the images' store paths in the store of the site */
function storePathsOf(places: SitePlaces, ids: readonly string[]): Set<string> {
  const needed = new Set<string>()
  for (const id of ids) {
    const { closure } = readSiteManifest(join(places.images, id), id)
    for (const { narHash } of closure) needed.add(basename(storedAt(places, narHash)))
  }
  return needed
}

/** @returns how many were removed */
function removeStorePaths(places: SitePlaces, needed: ReadonlySet<string>): number {
  const unused = readdirSync(places.store).filter(
    (name) => !name.startsWith('.') && !needed.has(name),
  )
  for (const name of unused) renameSync(join(places.store, name), nameForRemoved(places.store))
  syncDirectory(places.store)
  return unused.length
}
