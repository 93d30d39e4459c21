/** Makes times and owners in a tree of the image independent of the build and its user. */
import { chmodSync, lchownSync, lstatSync, lutimesSync, readdirSync } from 'node:fs'

import { joinBytes } from '../byte-paths.ts'
import { fileSystemError } from '../errors.ts'
import { storeTime } from '../nix/nar/restore.ts'

export interface NormalizeSettings {
  /** A directory whose files are normal already: the store. */
  skip?: string
  /** Whether modes become those of files in the Nix store: 444 or 555. */
  storeModes?: boolean
}

/**
 * Sets all time stamps in the tree to 1 and, if this process is root, all owners to root.
 */
export function normalizeTree(
  root: string,
  { skip, storeModes = false }: NormalizeSettings = {},
): void {
  const asRoot = process.geteuid?.() === 0
  const skipped = skip === undefined ? undefined : Buffer.from(skip)

  function normalize(path: Buffer, isDirectory: boolean): void {
    if (isDirectory && !skipped?.equals(path)) {
      for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
        normalize(joinBytes(path, entry.name), entry.isDirectory())
      }
    }
    if (asRoot) giveToRoot(path)
    if (storeModes) setStoreMode(path)
    lutimesSync(path, storeTime, storeTime)
  }

  try {
    normalize(Buffer.from(root), true)
  } catch (error) {
    throw fileSystemError(`could not set times and owners in ${root}`, error)
  }
}

function setStoreMode(path: Buffer): void {
  const stat = lstatSync(path)
  if (stat.isSymbolicLink()) return
  chmodSync(path, stat.isDirectory() || (stat.mode & 0o100) !== 0 ? 0o555 : 0o444)
}

function giveToRoot(path: Buffer): void {
  const stat = lstatSync(path)
  if (stat.uid === 0 && stat.gid === 0) return
  lchownSync(path, 0, 0)
  // chown(2) clears the setuid bit.
  if (!stat.isSymbolicLink()) chmodSync(path, stat.mode & 0o7777)
}
