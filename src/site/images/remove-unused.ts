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
 * @param kept tells which images to keep. It is called when nobody can begin to use another image,
 *   so that no image is removed that a machine has just been given.
 */
export async function removeUnused(
  state: string,
  kept: () => ReadonlySet<string>,
  { signal, progress = silentProgress }: Watching = {},
): Promise<RemovedUnused> {
  try {
    return await whileChanging(state, { signal, progress }, (places) => {
      const result = removeImages(state, places, kept)
      const removedStorePaths = removeStorePaths(state, places)
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
): Pick<RemovedUnused, 'removedImages' | 'inUse'> {
  const locks = new Map<string, Lock | undefined>()
  try {
    for (const id of imageIds(state)) {
      locks.set(id, tryLock(join(places.images, id, lockName), 'exclusive'))
    }
    const keep = kept()
    const unused = [...locks].filter(([id]) => !keep.has(id))
    const inUse = unused.filter(([, lock]) => !lock).map(([id]) => id)
    const removedImages = unused.filter(([, lock]) => lock).map(([id]) => id)
    for (const id of removedImages) {
      renameSync(join(places.images, id), nameForRemoved(places.images))
    }
    // Before any of their store paths are removed: otherwise an image that came back after a loss of
    // power would not be whole.
    syncDirectory(places.images)
    return { removedImages, inUse }
  } finally {
    for (const lock of locks.values()) lock?.release()
  }
}

/** @returns how many were removed */
function removeStorePaths(state: string, places: SitePlaces): number {
  const needed = new Set<string>()
  for (const id of imageIds(state)) {
    const { closure } = readSiteManifest(join(places.images, id), id)
    for (const { narHash } of closure) needed.add(basename(storedAt(places, narHash)))
  }
  const unused = readdirSync(places.store).filter(
    (name) => !name.startsWith('.') && !needed.has(name),
  )
  for (const name of unused) renameSync(join(places.store, name), nameForRemoved(places.store))
  syncDirectory(places.store)
  return unused.length
}
