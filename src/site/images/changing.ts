/** Adding and removing images of a site: one process at a time, and without leftovers. */
import { randomBytes } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../../errors.ts'
import { tryLock, waitForLock, type Lock } from '../../lock.ts'
import { makeDirectory } from '../../make-directory.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { removeTree, type OnFreed } from '../../remove-tree.ts'
import { tidy, type Warn } from '../../tidy.ts'
import { sitePlaces, type SitePlaces } from '../../image/site-places.ts'
import { forgetOldMarks } from './coming.ts'

export interface Watching {
  signal?: AbortSignal | undefined
  progress?: Progress | undefined
  /** Is told how many bytes of the disk become free because leftovers are removed. */
  onFreed?: OnFreed | undefined
}

/**
 * Waits until no other process adds or removes images, then runs `action`. First removes what
 * killed processes left.
 *
 * @throws the reason of the signal if the signal is aborted
 */
export async function whileChanging<T>(
  state: string,
  { signal, progress = silentProgress, onFreed }: Watching,
  action: (places: SitePlaces) => Promise<T> | T,
): Promise<T> {
  const places = sitePlaces(state)
  for (const folder of [places.images, places.store]) makeDirectory(folder, 0o700)
  const lock = await lockChanges(places, signal, progress)
  try {
    sweep(places, (message) => progress.warn(message), onFreed)
    return await action(places)
  } finally {
    lock.release()
  }
}

/** How long the person is not told that others have the lock: most hold it for a moment only. */
const silentMs = 1000

async function lockChanges(
  { lock: file, images }: SitePlaces,
  signal: AbortSignal | undefined,
  progress: Progress,
): Promise<Lock> {
  const free = await waitForLock(file, 'exclusive', silentMs, signal)
  if (free) return free
  progress.warn(`waiting for another netimage that adds or removes images in ${images}`)
  const lock = await waitForLock(file, 'exclusive', Infinity, signal)
  if (lock) return lock
  throw new NetimageError('in-use', `another netimage adds or removes images in ${images}`)
}

const unfinished = '.new-'
const removed = '.removed-'

export interface Scratch {
  directory: string
  /** The place of an unfinished store path, which lies beside its later place. */
  inStore(name: string): string
  /** Removes the directory, and what is left in the store. */
  remove(): void
}

/**
 * Makes a directory in `images` for an unfinished image. It is not swept as long as this process
 * lives, even after the end of `whileChanging`. Call this only inside `whileChanging`: another
 * process would take an unlocked directory for a leftover.
 */
export function makeScratch({ images, store }: SitePlaces, warn: Warn): Scratch {
  const ownName = unfinished + random()
  const directory = join(images, ownName)
  mkdirSync(directory, { mode: 0o700 })
  const lock = tryLock(join(directory, 'lock'), 'exclusive')
  const inStore = (name: string) => join(store, `${ownName}-${name}`)
  const remove = () => {
    for (const name of readdirSync(store))
      if (ownerOf(name) === ownName) tidy(join(store, name), warn)
    tidy(directory, warn)
    lock?.release()
  }
  return { directory, inStore, remove }
}

/**
 * Names for unfinished files directly in `parent`, only inside `whileChanging`. They lie beside their
 * places, because only root can move a read-only directory into another directory.
 */
export function unfinishedIn(parent: string, name: string): string {
  return join(parent, unfinished + name)
}

/** The scratch directory whose owner works at this name in the store. */
function ownerOf(name: string): string | undefined {
  return /^\.new-[0-9a-f]{16}(?=-)/.exec(name)?.[0]
}

/** A new name for something that is no longer part of the site. The next sweep removes it. */
export function nameForRemoved(parent: string): string {
  return join(parent, removed + random())
}

function random(): string {
  return randomBytes(8).toString('hex')
}

/**
 * Removes leftovers. To be called only inside `whileChanging`, while nothing is being added there. Others,
 * who work in their scratch directories meanwhile, keep these and what they have in the store.
 */
export function sweep(places: SitePlaces, warn: Warn, onFreed?: OnFreed): void {
  const remove = (path: string) => removeTree(path, onFreed)
  const { images, store } = places
  for (const name of readdirSync(images)) {
    if (name.startsWith(removed)) tidy(join(images, name), warn, remove)
    else if (name.startsWith(unfinished)) {
      tidy(join(images, name), warn, (path) => removeIfDead(path, remove))
    }
  }
  forgetOldMarks(places, onFreed)
  const alive = new Set<string | undefined>(readdirSync(images))
  for (const name of readdirSync(store)) {
    const isUnfinished = name.startsWith(unfinished) && !alive.has(ownerOf(name))
    if (isUnfinished || name.startsWith(removed)) tidy(join(store, name), warn, remove)
  }
}

function removeIfDead(directory: string, remove: (path: string) => void): void {
  if (!lstatSync(directory).isDirectory()) return remove(directory)
  const lock = tryLock(join(directory, 'lock'), 'exclusive')
  if (!lock) return
  remove(directory)
  lock.release()
}
