/**
 * Opening files by path in places where somebody else may change names meanwhile: a link, a FIFO or
 * a device may stand where a file was a moment ago.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, type PathLike } from 'node:fs'

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants

/**
 * Follows no link in the last name, and does not wait for the other end of a FIFO.
 *
 * @throws an error of the system; `ELOOP` for a link; an `Error` for what is no regular file
 */
export function openRegularFile(path: PathLike, access: 'read' | 'write' = 'read'): number {
  const flags = access === 'read' ? O_RDONLY : O_RDWR
  const file = openSync(path, flags | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (fstatSync(file).isFile()) return file
    throw new Error(`${String(path)} is no regular file`)
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/**
 * A path that leads to an open file or directory, and to what is below it, whatever happens to its
 * name. Only Linux has such paths.
 */
export function pathOfDescriptor(descriptor: number): string | undefined {
  return process.platform === 'linux' ? `/proc/self/fd/${descriptor}` : undefined
}

/**
 * Whether an open file lies below an open directory, by the names that the kernel has for both. This
 * finds a directory on the way that was exchanged for a link. Only Linux can tell; elsewhere true.
 */
export function liesBelow(file: number, directory: number): boolean {
  const [ofFile, ofDirectory] = [pathOfDescriptor(file), pathOfDescriptor(directory)]
  if (ofFile === undefined || ofDirectory === undefined) return true
  const path = readlinkSync(ofFile, 'buffer')
  const above = Buffer.concat([withoutSlash(readlinkSync(ofDirectory, 'buffer')), slash])
  return path.subarray(0, above.length).equals(above)
}

const slash = Buffer.from('/')

/** Only the root of all has one at its end. */
function withoutSlash(path: Buffer): Buffer {
  return path.equals(slash) ? Buffer.alloc(0) : path
}
