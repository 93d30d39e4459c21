/**
 * Removes files with data that no node of a layer has any more. A machine can leave tens of thousands
 * of them in the store paths of its image, and each takes a while, so most are removed while the server
 * serves others.
 */
import { renameSync, rmSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'

export interface LeftFiles {
  /** The name is given to another file now, which must stay. */
  isTaken(name: string): void
  /** Resolves once the removing has stopped. The next opening of the layer removes the rest. */
  stop(): Promise<void>
}

/** How many files are removed before the function returns. */
const atOnce = 64

/** @param gone a name in the folder that nothing else has, for the file that is being removed */
export function removeLeftFiles(folder: string, names: readonly string[], gone: string): LeftFiles {
  const left = new Set(names.slice(atOnce))
  for (const name of names.slice(0, atOnce)) rmSync(join(folder, name), { force: true })

  async function removeAll(): Promise<void> {
    const going = join(folder, gone)
    for (const name of left) {
      try {
        // The layer may need the name while the file is being removed.
        renameSync(join(folder, name), going)
        await unlink(going)
      } catch {
        // The file does no harm. The next opening of the layer tries again.
      }
    }
  }

  const done = removeAll()
  return {
    isTaken: (name) => void left.delete(name),
    stop() {
      left.clear()
      return done
    },
  }
}
