/** Whose files those of a layer are. */
import { lchownSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * What root makes in a layer belongs to whom the layer is of: the server may run as another user, who
 * could not open it any more.
 */
export function giveToOwnerOf(layer: string, path: string): void {
  if (process.geteuid?.() !== 0) return
  const { uid, gid } = lstatSync(layer)
  const inside = lstatSync(path).isDirectory() ? readdirSync(path, { recursive: true }) : []
  for (const name of ['', ...inside.map(String)]) lchownSync(join(path, name), uid, gid)
}
