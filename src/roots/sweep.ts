/** Removes unfinished files and old contents from the directory of a layer. */
import { lstatSync } from 'node:fs'
import { opendir, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { tidy, type Warn } from '../tidy.ts'
import { namesIn } from './names-in.ts'
import { readRecord } from './record.ts'

/**
 * Does not fail if something cannot be removed: the caller's own task is done by then.
 *
 * @param directory of a layer whose lock the caller holds (so for all functions here)
 * @param warn called for each path that could not be deleted
 */
export function sweep(directory: string, warn: Warn): void {
  for (const path of namesOfLeftovers(directory)) tidy(path, warn)
}

export interface Sweeping {
  /** Resolves once all is removed that can be. */
  done: Promise<void>
  /** Resolves once the sweeping has stopped. The next sweeping removes the rest. */
  stop(): Promise<void>
}

/**
 * Removes one file after the other while the server goes on to serve. There may be tens of
 * thousands of files.
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
        // The files do no harm. The next opening of the layer tries again.
      }
    }
  }

  const done = removeAll()
  return {
    done,
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
    // If the directory or the record cannot be read, the code that needs them reports it.
    return []
  }
}

/** Only our own names: other programs, such as file managers, leave hidden files, too. */
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
