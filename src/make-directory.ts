/** Makes a directory and those above it. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

import { errnoOf } from './errors.ts'

/**
 * Node's own recursive mkdir never ends below a directory in which nothing can be made and which
 * says ENOENT to that, as /proc does.
 */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'EEXIST') return
    const parent = dirname(path)
    if (errno !== 'ENOENT' || parent === path) throw error
    makeDirectory(parent)
    mkdirIfMissing(path)
  }
}

/** Another process may have been faster. */
function mkdirIfMissing(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  }
}
