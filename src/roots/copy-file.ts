/** Copies of data: shared with what they are made from where the file system can, else sparse. */
import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
  type PathLike,
} from 'node:fs'

const chunk = Buffer.alloc(256 * 1024)
const block = 4096
const zeros = Buffer.alloc(block)

/** The copy can be written by its owner, and is on the disk; without it nothing is left. */
export function copyFile(from: PathLike, to: string): void {
  try {
    try {
      copyFileSync(from, to, constants.COPYFILE_FICLONE_FORCE)
    } catch {
      copySparse(from, to)
    }
    const file = openSync(to, 'r')
    try {
      fchmodSync(file, 0o600)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
  } catch (error) {
    rmSync(to, { force: true })
    throw error
  }
}

/** Blocks of zeros become holes: the kernel's own copying would fill the holes that are there. */
function copySparse(from: PathLike, to: string): void {
  const source = openSync(from, 'r')
  try {
    const target = openSync(to, 'w', 0o600)
    try {
      let offset = 0
      for (let length; (length = readSync(source, chunk, 0, chunk.length, offset)) > 0;) {
        writeBlocks(target, offset, length)
        offset += length
      }
      ftruncateSync(target, offset)
    } finally {
      closeSync(target)
    }
  } finally {
    closeSync(source)
  }
}

/** What is not zeros in the chunk, in as few writes as there are runs of it. */
function writeBlocks(target: number, offset: number, length: number): void {
  const isHole = (at: number) => {
    const end = Math.min(at + block, length)
    return chunk.compare(zeros, 0, end - at, at, end) === 0
  }
  for (let from = 0; from < length;) {
    let to = from
    while (to < length && !isHole(to)) to += block
    to = Math.min(to, length)
    for (let at = from; at < to;) at += writeSync(target, chunk, at, to - at, offset + at)
    from = to
    while (from < length && isHole(from)) from += block
  }
}
