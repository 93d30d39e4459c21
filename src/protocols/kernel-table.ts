/** Reads the tables in which Linux shows its network: proc_net(5). */
import { readFileSync } from 'node:fs'

import { errnoOf } from '../errors.ts'

/** Other systems do not have these files, and a sandbox may hide them. */
const absent: readonly (string | undefined)[] = ['ENOENT', 'EACCES', 'EPERM']

/**
 * @returns undefined if there is no such table here
 * @throws if the table cannot be read at the moment: no descriptor is left, for example
 */
export function readKernelTable(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (absent.includes(errnoOf(error))) return undefined
    throw error
  }
}
