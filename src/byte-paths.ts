/** Paths as bytes: the names of files on Linux need not be text. */

const slash = Buffer.from('/')

/** Whether the name is `.` or `..`, the directory itself or the one above it. */
export function isDots(name: Buffer): boolean {
  return name.length > 0 && name.length <= 2 && name.every((byte) => byte === 0x2e)
}

export function joinBytes(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, slash, name])
}
