/** Disks on which `A` and `a` are the same name. macOS makes such disks by default. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from './errors.ts'

/**
 * The store paths of every system hold names that differ in case only: ncurses has terminfo/E and
 * terminfo/e, and kernels have xt_TCPMSS.ko and xt_tcpmss.ko.
 *
 * @param directory a directory in which only netimage makes files
 * @param entry an existing entry of the directory, with a lower-case name
 * @param what names the directory in the message, and the flag that chooses another directory
 */
export function refuseCaseInsensitive(
  directory: string,
  entry: string,
  what: { is: string; flag: string },
): void {
  if (!existsSync(join(directory, entry.toUpperCase()))) return
  throw new NetimageError(
    'file-system',
    `${what.is} ${directory} is on a disk on which names that differ only in case are the same name`,
    {
      details: { file: directory },
      hint: `A NixOS system has names that differ only in case. ${adviceFor(what.flag)}`,
    },
  )
}

/** @param flag the flag that chooses another directory */
function adviceFor(flag: string): string {
  const name = `name a directory on it with ${flag}`
  if (process.platform !== 'darwin') return `Use a case-sensitive disk, and ${name}.`
  return `Make a case-sensitive volume, for example with: diskutil apfs addVolume disk3 "Case-sensitive APFS" netimage (diskutil list shows which container is yours). Then ${name}.`
}
