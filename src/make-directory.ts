/** Makes a directory and those above it. */
import { chmodSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import { errnoOf } from './errors.ts'

/** @param mode of the directory itself, before the umask */
export function makeDirectory(path: string, mode = 0o777): void {
  makeWith(path, (made) => mkdirSync(made, made === path ? mode : 0o777))
}

/** What is made can be read by everybody, whatever the umask says. */
export function makeDirectoryForAll(path: string): void {
  makeWith(path, (made) => {
    mkdirSync(made)
    chmodSync(made, 0o755)
  })
}

/**
 * Node's own recursive mkdir never ends below a directory in which nothing can be made and which
 * says ENOENT to that, as /proc does.
 */
function makeWith(path: string, make: (path: string) => void): void {
  // It may be there, and another process may be faster.
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
