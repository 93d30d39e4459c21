/** The owner of files in the state directory. */
import { lchownSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Gives files that root makes in a directory to the owner of the directory. The server may run as that
 * user, and could not open files of root.
 */
export function giveToOwnerOf(directory: string, path: string): void {
  if (process.geteuid?.() !== 0) return
  const { uid, gid } = lstatSync(directory)
  // The files belong to this process already. There may be a hundred thousand of them.
  if (uid === 0 && gid === process.getegid?.()) return
  const inside = lstatSync(path).isDirectory() ? readdirSync(path, { recursive: true }) : []
  for (const name of ['', ...inside.map(String)]) lchownSync(join(path, name), uid, gid)
}
