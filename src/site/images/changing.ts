/** Adding and removing images of a site: one process at a time, and without leftovers. */
import { randomBytes } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../../errors.ts'
import { tryLock, waitForLock, type Lock } from '../../lock.ts'
import { makeDirectory } from '../../make-directory.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { removeTree } from '../../remove-tree.ts'
import { tidy, type Warn } from '../../tidy.ts'
import { sitePlaces, type SitePlaces } from '../../image/site-places.ts'

export interface Watching {
  signal?: AbortSignal | undefined
  progress?: Progress | undefined
}

/**
 * Waits until no other process adds or removes images, then runs `action`. First removes what
 * killed processes left.
 *
 * @throws the reason of the signal if the signal is aborted
 */
export async function whileChanging<T>(
  state: string,
  { signal, progress = silentProgress }: Watching,
  action: (places: SitePlaces) => Promise<T> | T,
): Promise<T> {
  const places = sitePlaces(state)
  for (const folder of [places.images, places.store]) makeDirectory(folder, 0o700)
  const lock = await lockChanges(places, signal, progress)
  try {
    sweep(places, (message) => progress.warn(message))
    return await action(places)
  } finally {
    lock.release()
  }
}

async function lockChanges(
  { lock: file, images }: SitePlaces,
  signal: AbortSignal | undefined,
  progress: Progress,
): Promise<Lock> {
  const free = tryLock(file, 'exclusive')
  if (free) return free
  const task = progress.begin('waiting for another netimage that adds or removes images')
  const lock = await waitForLock(file, 'exclusive', Infinity, signal)
  task.end('the other netimage has ended')
  if (lock) return lock
  throw new NetimageError('in-use', `another netimage adds or removes images in ${images}`)
}

const unfinished = '.new-'
const removed = '.removed-'

export interface Scratch {
  directory: string
  remove(): void
}

/**
 * Makes a directory in `images` for an unfinished image. It is not swept as long as this process
 * lives, even after the end of `whileChanging`. Call this only inside `whileChanging`: another
 * process would take an unlocked directory for a leftover.
 */
export function makeScratch({ images }: SitePlaces, warn: Warn): Scratch {
  const directory = join(images, unfinished + random())
  mkdirSync(directory, { mode: 0o700 })
  const lock = tryLock(join(directory, 'lock'), 'exclusive')
  const remove = () => {
    tidy(directory, warn)
    lock?.release()
  }
  return { directory, remove }
}

/**
 * Names for unfinished files directly in `parent`. They lie beside their places, because only root
 * can move a read-only directory into another directory.
 */
export function unfinishedIn(parent: string, name: string): string {
  return join(parent, unfinished + name)
}

/** A new name for something that is no longer part of the site. The next sweep removes it. */
export function nameForRemoved(parent: string): string {
  return join(parent, removed + random())
}

function random(): string {
  return randomBytes(8).toString('hex')
}

/** Removes leftovers. To be called only inside `whileChanging`, while nothing is being added. */
export function sweep({ images, store }: SitePlaces, warn: Warn): void {
  for (const name of readdirSync(store)) {
    if (name.startsWith(removed) || name.startsWith(unfinished)) tidy(join(store, name), warn)
  }
  for (const name of readdirSync(images)) {
    if (name.startsWith(removed)) tidy(join(images, name), warn)
    else if (name.startsWith(unfinished)) tidy(join(images, name), warn, removeIfDead)
  }
}

function removeIfDead(directory: string): void {
  if (!lstatSync(directory).isDirectory()) return removeTree(directory)
  const lock = tryLock(join(directory, 'lock'), 'exclusive')
  if (!lock) return
  removeTree(directory)
  lock.release()
}
