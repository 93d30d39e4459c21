/**
 * The lock of an image that is in use: the empty file `nix-support/lock` in the image. A process that
 * adds the image to a site, or serves it from a site, holds a shared lock. A process that replaces or
 * removes the image must hold an exclusive lock.
 * Every user who may read the image can hold the lock.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { waitForLock, type Lock } from '../lock.ts'
import { pathOfDescriptor } from '../open-safely.ts'
import { lockName } from './layout.ts'
import { notAnImage } from './manifest.ts'

export interface HeldImage {
  /** On Linux, leads to the image even after a rename. On other systems, the image's name. */
  path: string
  release(): void
}

/** Longer than a build needs for the two renames that replace an image. */
const lockWaitMs = 2000

/**
 * Keeps other processes from replacing the image. An image of an earlier netimage has no lock: it
 * can be replaced, but its directory stays open.
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

/** @returns undefined if another image got the name in the meantime */
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
        throw new NetimageError(
          'in-use',
          `another netimage replaces or removes the image ${directory}`,
          {
            details: { file: directory },
            hint: 'Wait until the other netimage has ended, then run this again.',
          },
        )
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
 * Takes the lock that a build holds while it replaces an image.
 *
 * @returns undefined for an image without a lock
 * @throws `NetimageError` `in-use` if somebody uses the image; `not-allowed`
 */
export async function lockToReplace(image: string): Promise<Lock | undefined> {
  const file = join(image, lockName)
  if (!existsSync(file)) return undefined
  // Another build that replaces the image holds the lock as well, but only for a moment.
  const lock = await waitForLock(file, 'exclusive', lockWaitMs)
  if (lock) return lock
  throw new NetimageError('in-use', `the image ${image} is just being added to a site`, {
    details: { file: image },
    hint: 'Wait until the other netimage has added it, then run this again. Or build to another place with -o.',
  })
}
