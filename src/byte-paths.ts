/** Paths as bytes: the names of files on Linux need not be text. */

const slash = Buffer.from('/')

export function joinBytes(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, slash, name])
}
