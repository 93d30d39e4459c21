/** Makes a directory and those above it. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import { errnoOf } from './errors.ts'

/**
 * Node's own recursive mkdir never ends below a directory in which nothing can be made and which
 * says ENOENT to that, as /proc does.
 *
 * @param mode of the directory itself, before the umask
 */
export function makeDirectory(path: string, mode = 0o777): void {
  try {
    mkdirSync(path, mode)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'EEXIST') return
    const parent = dirname(path)
    if (errno !== 'ENOENT' || parent === path) throw error
    makeDirectory(parent)
    mkdirIfMissing(path, mode)
  }
}

/** Another process may have been faster. */
function mkdirIfMissing(path: string, mode: number): void {
  try {
    mkdirSync(path, mode)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  }
}
