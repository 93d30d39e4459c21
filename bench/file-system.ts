/** File systems to measure on. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'

import { removeTree } from '../src/remove-tree.ts'

export const kinds = ['tmpfs', 'ext4', 'xfs', 'btrfs'] as const

/** The size is that of the closure of the benches, many times. */
const size = '6G'

/**
 * Mounts an empty file system as the directory while something works there. A tmpfs is only a folder of the one
 * in which the directory is.
 *
 * @param directory on a tmpfs; it is removed at the end
 */
export async function onFileSystem(
  kind: (typeof kinds)[number],
  directory: string,
  work: () => Promise<void>,
): Promise<void> {
  removeTree(directory)
  mkdirSync(directory)
  if (kind === 'tmpfs') {
    await work()
    removeTree(directory)
    return
  }
  const device = `${directory}.${kind}`
  try {
    execFileSync('truncate', ['--size', size, device])
    execFileSync(`mkfs.${kind}`, ['-q', device])
    execFileSync('mount', ['-o', 'loop', device, directory])
    try {
      await work()
    } finally {
      execFileSync('umount', [directory])
    }
  } finally {
    rmSync(device, { force: true })
    removeTree(directory)
  }
}
