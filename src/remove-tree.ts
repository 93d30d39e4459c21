/** Removes a tree whose directories may be read-only, as those of a Nix store are. */
import { chmodSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'

import { errnoOf } from './errors.ts'

const slash = Buffer.from('/')

/** Nothing happens where nothing is. Symlinks are removed, never followed. */
export function removeTree(path: string | Buffer): void {
  const root = Buffer.from(path)
  const stat = lstatSync(root, { throwIfNoEntry: false })
  if (!stat) return
  if (stat.isDirectory()) ifThere(() => removeDirectory(root))
  else unlinkSync(root)
}

function removeDirectory(path: Buffer): void {
  if (process.geteuid?.() !== 0) chmodSync(path, 0o700)
  for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
    const child = Buffer.concat([path, slash, entry.name])
    if (entry.isDirectory()) ifThere(() => removeDirectory(child))
    else ifThere(() => unlinkSync(child))
  }
  ifThere(() => rmdirSync(path))
}

/** Another clean-up may be faster. */
function ifThere(remove: () => void): void {
  try {
    remove()
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
