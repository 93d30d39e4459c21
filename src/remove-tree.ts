/** Removes a tree, even if its directories are read-only, as in a Nix store. */
import { chmodSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'

import { joinBytes } from './byte-paths.ts'
import { errnoOf } from './errors.ts'

/**
 * Does nothing if the path does not exist. Removes symlinks and never follows them.
 *
 * @throws the first error, after removing everything else
 */
export function removeTree(path: string | Buffer): void {
  removeTrees([path])
}

export function removeTrees(paths: readonly (string | Buffer)[]): void {
  const failures: unknown[] = []
  for (const path of paths) {
    attempt(failures, () => {
      const root = Buffer.from(path)
      if (lstatSync(root).isDirectory()) removeDirectory(root, failures)
      else unlinkSync(root)
    })
  }
  if (failures.length > 0) throw failures[0]
}

function removeDirectory(path: Buffer, failures: unknown[]): void {
  // If this fails, the directory belongs to another user, but may still be writable.
  if (process.geteuid?.() !== 0) attempt([], () => chmodSync(path, 0o700))
  attempt(failures, () => {
    for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
      const child = joinBytes(path, entry.name)
      if (entry.isDirectory()) removeDirectory(child, failures)
      else attempt(failures, () => unlinkSync(child))
    }
  })
  attempt(failures, () => rmdirSync(path))
}

function attempt(failures: unknown[], remove: () => void): void {
  try {
    remove()
  } catch (error) {
    // Another process may have removed it first.
    if (errnoOf(error) !== 'ENOENT') failures.push(error)
  }
}
