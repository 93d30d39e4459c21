import { readdirSync } from 'node:fs'

import { errnoOf, fileSystemError } from '../errors.ts'

/** Sorted; none where there is no such directory. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw fileSystemError(`could not read ${directory}`, error)
  }
}
