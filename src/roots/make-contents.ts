/** Makes new contents of a layer beside the current ones. */
import { mkdirSync } from 'node:fs'

import { removeTree } from '../remove-tree.ts'
import { syncDirectory } from '../sync-directory.ts'
import { dataFolder } from './data-files.ts'

/**
 * Afterwards all names are on the disk. On failure, there are no new contents.
 *
 * @param to a directory that does not exist yet
 * @param fill puts the database and the data in place, and waits until they are on the disk
 */
export function makeContents(to: string, fill: () => void): void {
  try {
    mkdirSync(dataFolder(to), { recursive: true })
    fill()
    for (const directory of [dataFolder(to), to]) syncDirectory(directory)
  } catch (error) {
    removeTree(to)
    throw error
  }
}
