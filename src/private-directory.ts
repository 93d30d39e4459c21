/** Directories in which nobody but this user and root can put or replace anything. */
import { mkdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { errnoOf } from './errors.ts'

const writableByOthers = 0o022
const sticky = 0o1000

/**
 * Finds or makes such a directory; what is made has the mode 0700. The directories above it count
 * too: who may write to one of them may put another directory in the place of this one.
 *
 * @returns its path without symlinks, or undefined if there is no such directory and none can be
 *   made, because somebody else owns, or can write to, a part of the path
 */
export function privateDirectory(path: string): string | undefined {
  const user = process.geteuid?.()
  if (user === undefined) return undefined
  try {
    return findOrMake(path, user)
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return undefined
  }
}

function findOrMake(path: string, user: number): string | undefined {
  const found = realpathIfThere(path)
  if (found !== undefined) return isPrivate(found, user) ? found : undefined
  const parent = findOrMake(dirname(path), user)
  if (parent === undefined) return undefined
  const made = join(parent, basename(path))
  try {
    mkdirSync(made, 0o700)
  } catch (error) {
    // Another process of this user may have been faster. Who else could have made it?
    if (errnoOf(error) !== 'EEXIST') throw error
  }
  return isPrivate(made, user) ? made : undefined
}

function realpathIfThere(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    return undefined
  }
}

function isPrivate(path: string, user: number): boolean {
  const { uid, mode } = statSync(path)
  if (uid !== user && uid !== 0) return false
  return (mode & writableByOthers) === 0 && isSafeAbove(path, user)
}

/** In a sticky directory, as /tmp is, only its owner renames or removes an entry. */
function isSafeAbove(path: string, user: number): boolean {
  const parent = dirname(path)
  if (parent === path) return true
  const { uid, mode } = statSync(parent)
  if (uid !== user && uid !== 0) return false
  return ((mode & writableByOthers) === 0 || (mode & sticky) !== 0) && isSafeAbove(parent, user)
}
