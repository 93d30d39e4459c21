/** Copies of data: shared with what they are made from where the file system can, else sparse. */
import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  read,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { promisify } from 'node:util'

import { errnoOf } from '../errors.ts'
import { openRegularFile, pathOfDescriptor } from '../open-safely.ts'

const chunkBytes = 256 * 1024
const block = 4096
const zeros = Buffer.alloc(block)
/** So much of a long copy is written to the disk at a time, or all others would wait for it then. */
const syncedBytes = 64 * 2 ** 20
const readAsync = promisify(read)

/**
 * The copy can be written by its owner, and is on the disk; after an error there is none.
 *
 * @param source a file that is open to be read
 * @param to nothing has this name yet, and no link is followed there
 * @param bytes how many of the first ones it has at least
 */
export function copyFile(source: number, to: string, bytes = Infinity): void {
  if (cloneFile(source, to)) return
  const file = openSync(to, 'wx', 0o600)
  try {
    copySparse(source, file, bytes)
    fsyncSync(file)
  } catch (error) {
    rmSync(to, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
}

/** The same if the file system can share the data. @returns whether it could */
export function cloneFile(source: number, to: string): boolean {
  if (!clone(source, to)) return false
  try {
    const file = openRegularFile(to)
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
  return true
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
function copySparse(source: number, target: number, bytes: number): void {
  const chunk = Buffer.allocUnsafe(chunkBytes)
  let offset = 0
  for (;;) {
    const wanted = Math.min(chunkBytes, bytes - offset)
    const length = wanted === 0 ? 0 : readSync(source, chunk, 0, wanted, offset)
    if (length === 0) break
    for (const { start, end } of runsOf(chunk, length)) {
      for (let at = start; at < end;) {
        at += writeSync(target, chunk, at, end - at, offset + at)
      }
    }
    offset += length
  }
  ftruncateSync(target, offset)
}

/**
 * The same for a large file, while others are served: its first bytes, on the disk.
 *
 * @param openSource opens it to be read
 * @param to nothing has this name yet
 * @param beforePiece is called before so many bytes are copied; if it throws, the copy ends
 * @throws what `beforePiece` throws, or an error of the file system; nothing is left then
 */
export async function copyBeginning(
  openSource: () => number,
  to: string,
  bytes: number,
  beforePiece: (bytes: number) => void,
): Promise<void> {
  const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, bytes))
  const source = openSource()
  try {
    await using target = await open(to, 'wx', 0o600)
    let offset = 0
    while (offset < bytes) {
      const wanted = Math.min(chunk.length, bytes - offset)
      beforePiece(wanted)
      const { bytesRead } = await readAsync(source, chunk, 0, wanted, offset)
      if (bytesRead === 0) break
      for (const { start, end } of runsOf(chunk, bytesRead)) {
        for (let at = start; at < end;) {
          at += (await target.write(chunk, at, end - at, offset + at)).bytesWritten
        }
      }
      const before = offset
      offset += bytesRead
      const isDue = Math.floor(offset / syncedBytes) > Math.floor(before / syncedBytes)
      if (isDue) await target.datasync()
    }
    await target.truncate(offset)
    await target.sync()
  } catch (error) {
    await rm(to, { force: true })
    throw error
  } finally {
    closeSync(source)
  }
}

/** What is not zeros in the chunk, in as few runs as there are. */
function* runsOf(chunk: Buffer, length: number): Generator<{ start: number; end: number }> {
  const isHole = (at: number) => {
    const end = Math.min(at + block, length)
    return chunk.compare(zeros, 0, end - at, at, end) === 0
  }
  for (let start = 0; start < length;) {
    let end = start
    while (end < length && !isHole(end)) end += block
    end = Math.min(end, length)
    if (end > start) yield { start, end }
    start = end
    while (start < length && isHole(start)) start += block
  }
}
