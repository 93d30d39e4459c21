/** The owner of a layer's files. */
import { lchownSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Gives files that root makes in a layer to the owner of the layer. The server may run as that
 * user, and could not open files of root.
 */
export function giveToOwnerOf(layer: string, path: string): void {
  if (process.geteuid?.() !== 0) return
  const { uid, gid } = lstatSync(layer)
  // The files belong to this process already. There may be a hundred thousand of them.
  if (uid === 0 && gid === process.getegid?.()) return
  const inside = lstatSync(path).isDirectory() ? readdirSync(path, { recursive: true }) : []
  for (const name of ['', ...inside.map(String)]) lchownSync(join(path, name), uid, gid)
}
