/**
 * Room on the disk that layers leave to the server. Leases, boots and the records of layers are on
 * the same disk. A machine that writes without end must not keep the others from booting.
 *
 * The floor does not reserve room. A layer looks at the free room of the disk now and then. If
 * there is too little, the layer refuses operations that take room, but never one that frees room.
 */
import { statfsSync } from 'node:fs'

import type { Space } from '../protocols/nfs/file-system.ts'
import { failure, guarded } from './failure.ts'

export interface Floor {
  /**
   * To be called before a machine takes this much of the disk.
   *
   * @throws `ENOSPC` if only the room for the server is left
   */
  take(bytes: number, files?: number): void
}

/** The floor is a 64th of the disk, but not more than `most`. */
const part = 64
const most = { bytes: 32 * 2 ** 20, files: 4096 }
/**
 * A layer looks at the disk again after it took this part of the free room. So this many layers can
 * write at the same time and together take no more than there is.
 */
const partBetweenLooks = 1024

/** The room that machines can have: the floor counts as used. @throws an error of the system */
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
  /** How much may be taken before the next look. */
  let unlooked = { bytes: 0, files: 0 }

  function look(bytes: number, files: number): void {
    const space = guarded(() => spaceAboveFloor(directory))
    // Some file systems do not tell how many bytes (FUSE) or files (Btrfs) they can hold.
    const available = space.total > 0 ? space.available : Infinity
    const freeFiles = space.files > 0 ? space.freeFiles : Infinity
    if (available < bytes || freeFiles < files) {
      throw failure('ENOSPC', 'the free room on the disk of the layer is kept for the server')
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
