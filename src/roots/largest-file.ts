/**
 * How large a file can be on the file system of a directory. The only way to find out is to try:
 * ext4, for example, ends at 16 TiB. The machine is told this size, and its kernel refuses to write
 * beyond it at once. Otherwise the machine would lose the data long after the write.
 */
import { closeSync, ftruncateSync, openSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Sizes that were found, by the number of the device. */
const known = new Map<number, number>()

/** @returns bytes */
export function largestFileIn(directory: string): number {
  try {
    const { dev } = statSync(directory)
    const largest = known.get(dev) ?? tryIn(directory)
    known.set(dev, largest)
    return largest
  } catch {
    // The disk may be full, for example. The next opening of a layer tries again.
    return Number.MAX_SAFE_INTEGER
  }
}

/** Tries with a file of holes, which takes no room. */
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
