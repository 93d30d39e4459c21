/**
 * Room on the disk that layers leave to the server. Leases, boots and the records of layers are on the
 * same disk: a machine that writes without end must not keep the others from booting.
 *
 * The floor holds nothing back by itself. A layer looks at the disk now and then, and refuses what takes
 * room once there is too little. Whatever gives room is never refused.
 */
import { statfsSync } from 'node:fs'

import type { Space } from '../protocols/nfs/file-system.ts'
import { failure, guarded } from './failure.ts'

export interface Floor {
  /**
   * A machine is about to take so much of the disk.
   *
   * @throws `ENOSPC` if the server needs what is left
   */
  take(bytes: number, files?: number): void
}

/** The floor is this part of the disk, and at most so much. */
const part = 64
const most = { bytes: 32 * 2 ** 20, files: 4096 }
/**
 * A layer looks at the disk again after it took this part of what was free: as many layers can write at the
 * same time, and none of them takes more than there is.
 */
const partBetweenLooks = 1024

/** What machines can have of the disk: the floor is not free. @throws an error of the system */
export function spaceAboveFloor(directory: string): Space {
  const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(directory)
  const total = blocks * bsize
  const floor = Math.min(most.bytes, total / part)
  const floorOfFiles = Math.min(most.files, files / part)
  const above = (free: number, kept: number) => Math.max(0, Math.floor(free - kept))
  return {
    total,
    free: above(bfree * bsize, floor),
    available: above(bavail * bsize, floor),
    files,
    freeFiles: above(ffree, floorOfFiles),
  }
}

/** @param directory of the layer */
export function openFloor(directory: string): Floor {
  /** How much is taken before the next look. */
  let unlooked = { bytes: 0, files: 0 }

  function look(bytes: number, files: number): void {
    const space = guarded(() => spaceAboveFloor(directory))
    // Some file systems do not say how many bytes (FUSE) or files (Btrfs) there can be.
    const available = space.total > 0 ? space.available : Infinity
    const freeFiles = space.files > 0 ? space.freeFiles : Infinity
    if (available < bytes || freeFiles < files) {
      throw failure('ENOSPC', 'what is free on the disk of the layer is kept for the server')
    }
    unlooked = { bytes: available / partBetweenLooks, files: freeFiles / partBetweenLooks }
  }

  return {
    take(bytes, files = 0) {
      if (unlooked.bytes < bytes || unlooked.files < files) look(bytes, files)
      unlooked.bytes -= bytes
      unlooked.files -= files
    },
  }
}
