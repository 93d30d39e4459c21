/** Removes the images and store paths of a site that nothing keeps. */
import { constants, copyFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { fileSystemError, isDiskFull, messageOf, NetimageError } from '../../errors.ts'
import { lockName } from '../../image/layout.ts'
import { tryLock, type Lock } from '../../lock.ts'
import { silentProgress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { nameForRemoved, sweep, unfinishedIn, whileChanging, type Watching } from './changing.ts'
import { comingPaths } from './coming.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { imageIds, readSiteManifest } from './site-image.ts'
import type { Entry, Who } from '../log/entry.ts'
import { noteInSite } from '../log/note-in-site.ts'

export interface RemovedUnused {
  removedImages: string[]
  /** Images that nothing keeps, but that a running server uses. */
  inUse: string[]
  removedStorePaths: number
  /**
   * Bytes of the disk that became free, also because of what killed processes had left. If `mayShareBlocks`,
   * they are fewer if files share blocks with files that stay.
   */
  freedBytes: number
  /** Whether the file system can clone files; false if nothing became free. */
  mayShareBlocks: boolean
}

/** How many images a row of the log names. */
const namedInLog = 100

export interface RemoveSettings extends Omit<Watching, 'onFreed'> {
  /** Who removes images, for the log of the site. Default: the server. */
  who?: Who | undefined
}

/**
 * If this fails, no image was removed. The log says it before: but if the disk has no room for that, it
 * says it afterwards.
 *
 * @param kept tells which images to keep. It is called twice. The second time, nobody can begin to use
 *   an image that was not kept the first time. So no image is removed that a machine has just been
 *   given, and nobody waits for the first call, which can take long
 * @throws `NetimageError` `image-damaged` if the manifest of an image that stays cannot be read
 */
export async function removeUnused(
  state: string,
  kept: () => ReadonlySet<string>,
  { signal, progress = silentProgress, who = { kind: 'server' } }: RemoveSettings = {},
): Promise<RemovedUnused> {
  const note = (entry: Entry) => noteInSite(state, { at: Date.now(), who, entry })
  const noteRemoved = async (ids: readonly string[]) => {
    const [images, more] = [ids.slice(0, namedInLog), Math.max(0, ids.length - namedInLog)]
    await note({ kind: 'removed', images, ...(more > 0 && { more }) })
  }
  let freedBytes = 0
  const onFreed = (bytes: number) => {
    freedBytes += bytes
  }
  try {
    return await whileChanging(state, { signal, progress, onFreed }, async (places) => {
      const { needed, isNoted, ...result } = await removeImages(state, places, kept, noteRemoved)
      const removedStorePaths = removeStorePaths(places, needed)
      sweep(places, (message) => progress.warn(message), onFreed)
      const freed = { freedBytes, mayShareBlocks: freedBytes > 0 && canClone(places) }
      try {
        if (!isNoted) await noteRemoved(result.removedImages)
        if (removedStorePaths > 0 || freedBytes > 0) {
          await note({ kind: 'freed', storePaths: removedStorePaths, ...freed })
        }
      } catch (error) {
        progress.warn(`the log of the site does not have it: ${messageOf(error)}`)
      }
      return { ...result, removedStorePaths, ...freed }
    })
  } catch (error) {
    throw fileSystemError(`could not remove unused images of ${state}`, error)
  }
}

interface Removed extends Pick<RemovedUnused, 'removedImages' | 'inUse'> {
  /** The names in the store of the store paths that stay. */
  needed: Set<string>
  /** Whether the log has it. */
  isNoted: boolean
}

async function removeImages(
  state: string,
  places: SitePlaces,
  kept: () => ReadonlySet<string>,
  note: (ids: readonly string[]) => Promise<void>,
): Promise<Removed> {
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
    const stay = ids.filter((id) => !removedImages.includes(id))
    const needed = storePathsOf(places, stay)
    const isNoted = removedImages.length === 0 || (await hasRoomFor(() => note(removedImages)))
    for (const id of removedImages) {
      renameSync(join(places.images, id), nameForRemoved(places.images))
    }
    // Before any of their store paths are removed: otherwise an image that came back after a loss of
    // power would not be whole.
    syncDirectory(places.images)
    return { removedImages, inUse, needed, isNoted }
  } finally {
    for (const lock of locks.values()) lock?.release()
  }
}

/** @returns false if the disk is full: the removal of images can make room */
async function hasRoomFor(action: () => Promise<void>): Promise<boolean> {
  try {
    await action()
    return true
  } catch (error) {
    if (error instanceof NetimageError && error.code === 'disk-full') return false
    throw error
  }
}

/** @returns the names in the store of the store paths of these images, and of those that come */
function storePathsOf(places: SitePlaces, ids: readonly string[]): Set<string> {
  const closures = ids.map((id) => readSiteManifest(join(places.images, id), id).closure)
  const infos = [...closures, comingPaths(places)].flat()
  return new Set(infos.map(({ narHash }) => basename(storedAt(places, narHash))))
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

/** Only inside `whileChanging`. @returns also true if the disk is too full to find out */
function canClone({ store }: SitePlaces): boolean {
  const [probe, clone] = [unfinishedIn(store, 'probe'), unfinishedIn(store, 'clone-of-probe')]
  try {
    writeFileSync(probe, '')
    copyFileSync(probe, clone, constants.COPYFILE_FICLONE_FORCE)
    return true
  } catch (error) {
    // File systems that cannot clone files give many different errors.
    return isDiskFull(error)
  } finally {
    for (const file of [probe, clone]) rmSync(file, { force: true })
  }
}
