/**
 * Unpacks a NAR on disk, as Nix does in a store: mode 0444 or 0555, time stamp 1.
 *
 * The calls are synchronous: in a worker thread they are twice as fast as promises, and only one
 * chunk is in memory.
 */
import {
  chmodSync,
  closeSync,
  fchmodSync,
  futimesSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs'

import { errnoOf, fileSystemError } from '../../errors.ts'
import type { NarVisitor } from './parse.ts'

/** The time stamp of everything in a Nix store, in seconds. */
export const storeTime = 1

const slash = Buffer.from('/')

const takenHint =
  'If no other program writes there, names that differ only in case or in their Unicode form are the same name on this disk. Name a directory on a case-sensitive disk with --pool.'

export interface Restore extends NarVisitor {
  /** Closes the open file, if the stream ended early. */
  abandon(): void
}

/** @param destination must not exist yet; its parent must */
export function restoreTo(destination: string): Restore {
  const root = Buffer.from(destination)
  /** The directories that are open, outermost first. */
  const directories: Buffer[] = []
  // Only a umask with bits for reading or executing changes the modes of the files.
  const umaskInterferes = (process.umask() & 0o555) !== 0
  let fd = -1
  let file: Buffer = root

  function pathOf(name: Buffer): Buffer {
    const parent = directories.at(-1)
    return parent ? Buffer.concat([parent, slash, name]) : root
  }

  function attempt<T>(path: Buffer, action: () => T): T {
    try {
      return action()
    } catch (error) {
      // The parser refuses a NAR with the same name twice, so the disk has taken two names for one.
      const isTaken = errnoOf(error) === 'EEXIST' && directories.length > 0
      // The system error of a symlink has its target as the path.
      throw fileSystemError(`could not write ${path.toString()}`, error, {
        details: { file: path.toString() },
        ...(isTaken && { hint: takenHint }),
      })
    }
  }

  return {
    directory(name) {
      const path = pathOf(name)
      attempt(path, () => mkdirSync(path, 0o755))
      directories.push(path)
    },
    directoryEnd() {
      const path = directories.pop()
      if (!path) return
      attempt(path, () => {
        utimesSync(path, storeTime, storeTime)
        chmodSync(path, 0o555)
      })
    },
    symlink(name, target) {
      const path = pathOf(name)
      attempt(path, () => {
        symlinkSync(target, path)
        lutimesSync(path, storeTime, storeTime)
      })
    },
    file(name, executable) {
      file = pathOf(name)
      const mode = executable ? 0o555 : 0o444
      attempt(file, () => {
        // Exclusive: never write to an existing file or through a symlink.
        fd = openSync(file, 'wx', mode)
        if (umaskInterferes) fchmodSync(fd, mode)
      })
    },
    data(chunk) {
      attempt(file, () => {
        for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at)
      })
    },
    fileEnd() {
      attempt(file, () => {
        futimesSync(fd, storeTime, storeTime)
        closeSync(fd)
        fd = -1
      })
    },
    abandon() {
      if (fd >= 0) closeSync(fd)
      fd = -1
    },
  }
}
