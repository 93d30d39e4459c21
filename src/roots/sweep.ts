/** Removes of a layer what was never finished, and what is not current any more. */
import { opendir, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { removeTree } from '../remove-tree.ts'
import { namesIn } from './names-in.ts'
import { readRecord } from './record.ts'

/** @param directory of a layer that nobody else has open, as for all here */
export function sweep(directory: string): void {
  for (const path of leftovers(directory)) removeTree(path)
}

export interface Sweeping {
  /** Resolves once nothing more is removed; what is left goes the next time. */
  stop(): Promise<void>
}

/**
 * One file after the other, while others are served: what a machine wrote may be tens of thousands
 * of files, and takes as long.
 */
export function sweepInBackground(directory: string): Sweeping {
  let isStopped = false

  async function remove(path: string): Promise<void> {
    const folder = await opendir(path)
    for await (const entry of folder) {
      if (isStopped) return
      const child = join(path, entry.name)
      await (entry.isDirectory() ? remove(child) : unlink(child))
    }
    if (!isStopped) await rmdir(path)
  }

  async function removeAll(): Promise<void> {
    try {
      for (const path of leftovers(directory)) await remove(path)
    } catch {
      // They are of no use to anybody, and are tried again when the layer is opened again.
    }
  }

  const done = removeAll()
  return {
    stop() {
      isStopped = true
      return done
    },
  }
}

function leftovers(directory: string): string[] {
  const current = readRecord(directory)?.name
  const contents = namesIn(directory).filter((name) => {
    const isContents = /^[0-9a-f]{32}$/.test(name) || name.startsWith('.new-')
    return isContents && name !== current
  })
  const unfinished = [dirname(directory), join(directory, 'snapshots')].flatMap((parent) =>
    namesIn(parent)
      .filter((name) => name.startsWith('.'))
      .map((name) => join(parent, name)),
  )
  return [...contents.map((name) => join(directory, name)), ...unfinished]
}
