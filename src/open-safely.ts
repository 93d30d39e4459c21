/**
 * Opens files by path in directories that somebody else can change: at any moment a symlink, a FIFO
 * or a device may replace a file.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, type PathLike } from 'node:fs'

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants

/**
 * Does not follow a symlink in the last name, and does not wait for the other end of a FIFO.
 *
 * @throws a system error; `ELOOP` for a symlink; an `Error` if the path is not a regular file
 */
export function openRegularFile(path: PathLike, access: 'read' | 'write' = 'read'): number {
  const flags = access === 'read' ? O_RDONLY : O_RDWR
  const file = openSync(path, flags | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (fstatSync(file).isFile()) return file
    throw new Error(`${String(path)} is not a regular file`)
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/**
 * A path to an open file or directory that stays valid if the file is renamed. Only Linux has such
 * paths.
 */
export function pathOfDescriptor(descriptor: number): string | undefined {
  return process.platform === 'linux' ? `/proc/self/fd/${descriptor}` : undefined
}

/**
 * Whether an open file lies below an open directory, by the paths that the kernel knows of both.
 * This detects that a directory between the two was replaced by a symlink. Only Linux can tell:
 * on other systems the answer is always true.
 */
export function liesBelow(file: number, directory: number): boolean {
  const [ofFile, ofDirectory] = [pathOfDescriptor(file), pathOfDescriptor(directory)]
  if (ofFile === undefined || ofDirectory === undefined) return true
  const path = readlinkSync(ofFile, 'buffer')
  const above = Buffer.concat([withoutSlash(readlinkSync(ofDirectory, 'buffer')), slash])
  return path.subarray(0, above.length).equals(above)
}

const slash = Buffer.from('/')

/** Only the path `/` ends with a slash. */
function withoutSlash(path: Buffer): Buffer {
  return path.equals(slash) ? Buffer.alloc(0) : path
}
