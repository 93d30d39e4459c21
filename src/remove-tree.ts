/** Removes a tree, even if its directories are read-only, as in a Nix store. */
import { chmodSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'

import { joinBytes } from './byte-paths.ts'
import { errnoOf } from './errors.ts'

/**
 * Does nothing if the path does not exist. Removes symlinks and never follows them.
 *
 * @param onFreed is told of each file and directory that is gone how many bytes of the disk it had. It is
 *   told nothing of a file that has another name. Blocks that clones of the file share are not known, and
 *   count in full
 * @throws the first error, after removing everything else
 */
export function removeTree(path: string | Buffer, onFreed?: OnFreed): void {
  removeTrees([path], onFreed)
}

export type OnFreed = (bytes: number) => void

export function removeTrees(paths: readonly (string | Buffer)[], onFreed?: OnFreed): void {
  const failures: unknown[] = []
  for (const path of paths) {
    attempt(failures, () => {
      const root = Buffer.from(path)
      if (lstatSync(root).isDirectory()) removeDirectory(root, failures, onFreed)
      else telling(root, onFreed, unlinkSync)
    })
  }
  if (failures.length > 0) throw failures[0]
}

function removeDirectory(path: Buffer, failures: unknown[], onFreed?: OnFreed): void {
  // If this fails, the directory belongs to another user, but may still be writable.
  if (process.geteuid?.() !== 0) attempt([], () => chmodSync(path, 0o700))
  const empty = () => {
    for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
      const child = joinBytes(path, entry.name)
      if (entry.isDirectory()) removeDirectory(child, failures, onFreed)
      else attempt(failures, () => telling(child, onFreed, unlinkSync))
    }
  }
  const remove = () => {
    attempt(failures, empty)
    rmdirSync(path)
  }
  attempt(failures, () => telling(path, onFreed, remove))
}

function telling(path: Buffer, onFreed: OnFreed | undefined, remove: (path: Buffer) => void): void {
  // Before: an emptied directory can have fewer blocks.
  const stats = onFreed && lstatSync(path)
  remove(path)
  // The unit of `blocks` is 512 bytes on each file system [stat(2)].
  if (stats && (stats.isDirectory() || stats.nlink === 1)) onFreed?.(stats.blocks * 512)
}

function attempt(failures: unknown[], remove: () => void): void {
  try {
    remove()
  } catch (error) {
    // Another process may have removed it first.
    if (errnoOf(error) !== 'ENOENT') failures.push(error)
  }
}
