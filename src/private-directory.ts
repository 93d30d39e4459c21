/** Directories to which only this user and root can write. */
import { mkdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { errnoOf } from './errors.ts'

const writableByOthers = 0o022
const sticky = 0o1000

/**
 * Finds or makes such a directory. New directories have the mode 0700. The directories above are
 * checked, too: a user who can write to one of them can replace this directory by another one.
 *
 * @returns the path without symlinks; undefined if another user owns or can write to a part of the
 *   path, or if the directory cannot be made
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
    // Another process of this user may have made it first. Other users cannot write to the parent.
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

/** In a sticky directory such as /tmp, only the owner of an entry can rename or remove it. */
function isSafeAbove(path: string, user: number): boolean {
  const parent = dirname(path)
  if (parent === path) return true
  const { uid, mode } = statSync(parent)
  if (uid !== user && uid !== 0) return false
  return ((mode & writableByOthers) === 0 || (mode & sticky) !== 0) && isSafeAbove(parent, user)
}
