/** Makes a directory and the missing directories above it. */
import { chmodSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import { errnoOf } from './errors.ts'

/** @param mode of the directory itself, before the umask */
export function makeDirectory(path: string, mode = 0o777): void {
  makeWith(path, (made) => mkdirSync(made, made === path ? mode : 0o777))
}

/** Everybody can read the new directories, whatever the umask is. */
export function makeDirectoryForAll(path: string): void {
  makeWith(path, (made) => {
    mkdirSync(made)
    chmodSync(made, 0o755)
  })
}

/**
 * Node's own recursive mkdir never ends below a directory in which each mkdir fails with ENOENT, as
 * in /proc.
 */
function makeWith(path: string, make: (path: string) => void): void {
  // The directory may exist already, or another process may make it at the same time.
  const makeUnlessThere = () => {
    try {
      make(path)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
  }
  try {
    makeUnlessThere()
  } catch (error) {
    const parent = dirname(path)
    if (errnoOf(error) !== 'ENOENT' || parent === path) throw error
    makeWith(parent, make)
    makeUnlessThere()
  }
}
