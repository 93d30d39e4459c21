/** Removes a tree whose directories may be read-only, as those of a Nix store are. */
import { chmodSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'

import { errnoOf } from './errors.ts'

const slash = Buffer.from('/')

/**
 * Nothing happens if nothing is there. Symlinks are removed, never followed.
 *
 * @throws the first error, after all that can be removed is gone
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
  // Somebody else's directory may be writable all the same.
  if (process.geteuid?.() !== 0) attempt([], () => chmodSync(path, 0o700))
  attempt(failures, () => {
    for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
      const child = Buffer.concat([path, slash, entry.name])
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
    // Another clean-up may be faster.
    if (errnoOf(error) !== 'ENOENT') failures.push(error)
  }
}
