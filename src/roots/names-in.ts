import { readdirSync } from 'node:fs'

import { errnoOf, fileSystemError } from '../errors.ts'

/** @returns the names, sorted; no names if the directory does not exist */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    const hint = 'Run this as the user of the server, or as root.'
    const isForbidden = errnoOf(error) === 'EACCES'
    throw fileSystemError(`could not read ${directory}`, error, isForbidden ? { hint } : {})
  }
}
