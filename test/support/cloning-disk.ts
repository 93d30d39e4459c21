// A disk whose file system can clone files, in a mount namespace of its own.

import { mounted } from './namespace.ts'

/**
 * A command prefix. The disk is in memory, so that waiting for it takes no time.
 *
 * @param directory an empty directory, which becomes the disk
 */
export function onCloningDisk(directory: string): string[] {
  const script = `
    mount -t tmpfs memory "$1"
    truncate -s 256M "$1/disk"
    mkfs.btrfs --quiet "$1/disk" >&2
    mount -o loop "$1/disk" "$1"
  `
  return mounted(script, directory)
}
