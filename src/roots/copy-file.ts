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
} from 'node:fs'

import { errnoOf } from '../errors.ts'
import { openRegularFile, pathOfDescriptor } from '../open-safely.ts'

const chunk = Buffer.alloc(256 * 1024)
const block = 4096
const zeros = Buffer.alloc(block)

/**
 * The copy can be written by its owner, and is on the disk; after an error there is none.
 *
 * @param source a file that is open to be read
 * @param to nothing has this name yet, and no link is followed there
 */
export function copyFile(source: number, to: string): void {
  const isCloned = clone(source, to)
  const file = isCloned ? openRegularFile(to) : openSync(to, 'wx', 0o600)
  try {
    if (isCloned) fchmodSync(file, 0o600)
    else copySparse(source, file)
    fsyncSync(file)
  } catch (error) {
    rmSync(to, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
}

/** Opens what is to be copied: no link, and nothing but a file. */
export function copyFileAt(from: string, to: string): void {
  const source = openRegularFile(from)
  try {
    copyFile(source, to)
  } finally {
    closeSync(source)
  }
}

function clone(source: number, to: string): boolean {
  const from = pathOfDescriptor(source)
  if (from === undefined) return false
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw error
    return false
  }
}

/** Blocks of zeros become holes: the kernel's own copying would fill the holes that are there. */
function copySparse(source: number, target: number): void {
  let offset = 0
  for (let length; (length = readSync(source, chunk, 0, chunk.length, offset)) > 0;) {
    writeBlocks(target, offset, length)
    offset += length
  }
  ftruncateSync(target, offset)
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
