/**
 * How large a file can be on the file system that a directory is on: nothing tells it but trying.
 * ext4 ends at 16 TiB where others do not end. A machine that is told refuses to write beyond it; one
 * that is not loses what it wrote there, long after it did.
 */
import { closeSync, ftruncateSync, openSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** By the number of the device. */
const known = new Map<number, number>()

/** @returns bytes */
export function largestFileIn(directory: string): number {
  try {
    const { dev } = statSync(directory)
    const largest = known.get(dev) ?? tryIn(directory)
    known.set(dev, largest)
    return largest
  } catch {
    // Such as that the disk is full: it is tried again when the layer is next opened.
    return Number.MAX_SAFE_INTEGER
  }
}

/** By a file of holes, which takes no room. */
function tryIn(directory: string): number {
  const name = join(directory, 'largest')
  const file = openSync(name, 'w', 0o600)
  try {
    rmSync(name)
    if (canHave(file, Number.MAX_SAFE_INTEGER)) return Number.MAX_SAFE_INTEGER
    let possible = 0
    for (let step = 2 ** 52; step >= 1; step /= 2) {
      if (canHave(file, possible + step)) possible += step
    }
    return possible
  } finally {
    closeSync(file)
  }
}

function canHave(file: number, size: number): boolean {
  try {
    ftruncateSync(file, size)
    return true
  } catch {
    return false
  }
}
