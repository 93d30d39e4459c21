/** Disks on which `A` and `a` are one name, as macOS makes them unless it is asked not to. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from './errors.ts'

/**
 * The store paths of every system hold names that differ in case only: ncurses has terminfo/E and
 * terminfo/e, and kernels have xt_TCPMSS.ko and xt_tcpmss.ko.
 *
 * @param directory where only netimage makes anything
 * @param entry the lower-case name of something in it
 * @param what the directory is, and the flag that names another
 */
export function refuseCaseInsensitive(
  directory: string,
  entry: string,
  what: { is: string; flag: string },
): void {
  if (!existsSync(join(directory, entry.toUpperCase()))) return
  throw new NetimageError(
    'file-system',
    `${what.is} ${directory} is on a disk that takes names which differ in case only for one name`,
    { hint: `A NixOS system has such names. ${adviceFor(what.flag)}` },
  )
}

/** @param flag names another directory */
function adviceFor(flag: string): string {
  const name = `name a directory on it with ${flag}`
  if (process.platform !== 'darwin') return `Take a disk that tells them apart, and ${name}.`
  return `Make a volume that tells them apart, as by: diskutil apfs addVolume disk3 "Case-sensitive APFS" netimage (diskutil list shows which container is yours). Then ${name}.`
}
