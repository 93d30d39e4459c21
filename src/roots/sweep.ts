/** Removes of a layer what was never finished, and what is not current any more. */
import { lstatSync } from 'node:fs'
import { opendir, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { tidy, type Warn } from '../tidy.ts'
import { namesIn } from './names-in.ts'
import { readRecord } from './record.ts'

/**
 * What cannot be removed stays: what was asked for is done.
 *
 * @param directory of a layer that nobody else has open, as for all here
 * @param warn told what stays
 */
export function sweep(directory: string, warn: Warn): void {
  for (const path of namesOfLeftovers(directory)) tidy(path, warn)
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
    for (const path of namesOfLeftovers(directory)) {
      try {
        await (lstatSync(path).isDirectory() ? remove(path) : unlink(path))
      } catch {
        // It is of no use to anybody, and is tried again when the layer is opened again.
      }
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

function namesOfLeftovers(directory: string): string[] {
  try {
    return leftovers(directory)
  } catch {
    // A directory or a record that cannot be read is told by whoever needs it.
    return []
  }
}

/** What we name, and nothing else: file managers and other programs leave files of their own. */
const leftover = /^\.(?:new|removed)-/

function leftovers(directory: string): string[] {
  const current = readRecord(directory)?.name
  const contents = namesIn(directory).filter((name) => {
    const isContents = /^[0-9a-f]{32}$/.test(name) || leftover.test(name)
    return isContents && name !== current
  })
  const unfinished = [dirname(directory), join(directory, 'snapshots')].flatMap((parent) =>
    namesIn(parent)
      .filter((name) => leftover.test(name))
      .map((name) => join(parent, name)),
  )
  return [...contents.map((name) => join(directory, name)), ...unfinished]
}
