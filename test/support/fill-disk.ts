// Fills small disks.

import fs, { appendFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** A test may replace it later, for the code under test. */
const { statfsSync } = fs

/**
 * @param ballast a file in the top directory of the disk, which takes the room
 * @param left bytes that stay free
 */
export function fillDisk(ballast: string, left = 0): void {
  writeFileSync(ballast, '')
  for (let more = 1; more > 0;) {
    const { bavail, bsize } = statfsSync(dirname(ballast))
    more = Math.min(bavail * bsize - left, 65_536)
    if (more > 0) appendFileSync(ballast, Buffer.alloc(more))
  }
}
