/**
 * Images in use. Whoever serves an image holds its lock with others, and whoever replaces an image
 * must hold the lock alone: the empty file `nix-support/lock` in the image. Every user who may read
 * the image can hold it.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { tryLock, waitForLock, type Lock } from '../lock.ts'
import { pathOfDescriptor } from '../open-safely.ts'
import { lockName } from './layout.ts'
import { notAnImage } from './manifest.ts'

export interface HeldImage {
  /** Leads to the image whatever happens to its name; on other systems than Linux its name. */
  path: string
  release(): void
}

/** Replacing an image takes two renames. */
const lockWaitMs = 2000

/**
 * Keeps the image from being replaced. An image of an earlier netimage has no lock and is only held
 * open.
 *
 * @throws `NetimageError` `not-an-image`, `in-use`, `file-system`
 */
export async function holdImage(directory: string): Promise<HeldImage> {
  try {
    for (;;) {
      const held = await holdNow(directory)
      if (held) return held
    }
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') throw notAnImage(directory)
    throw fileSystemError(`could not open the image ${directory}`, error)
  }
}

/** @returns undefined if another image got the name meanwhile */
async function holdNow(directory: string): Promise<HeldImage | undefined> {
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  let lock: Lock | undefined
  const release = () => {
    lock?.release()
    closeSync(descriptor)
  }
  try {
    const path = pathOfDescriptor(descriptor) ?? directory
    const file = join(path, lockName)
    if (existsSync(file)) {
      lock = await waitForLock(file, 'shared', lockWaitMs)
      if (!lock) {
        throw new NetimageError('in-use', `a build replaces the image ${directory}`, {
          details: { file: directory },
          hint: 'Wait for that build to end, then run this again.',
        })
      }
    }
    const [held, named] = [fstatSync(descriptor), statSync(directory)]
    if (held.ino === named.ino && held.dev === named.dev) return { path, release }
    release()
    return undefined
  } catch (error) {
    release()
    throw error
  }
}

/**
 * To be held while an image is replaced.
 *
 * @returns undefined for an image without a lock
 * @throws `NetimageError` `in-use` if somebody serves the image; `not-allowed`
 */
export function lockToReplace(image: string): Lock | undefined {
  const file = join(image, lockName)
  if (!existsSync(file)) return undefined
  const lock = tryLock(file, 'exclusive')
  if (lock) return lock
  throw new NetimageError('in-use', `the image ${image} is served, and machines may run from it`, {
    details: { file: image },
    hint: 'Build to another place with -o and serve that, or stop `netimage serve` first.',
  })
}
