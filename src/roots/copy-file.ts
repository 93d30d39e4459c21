/** Copies files. The copy shares its data with the source if the file system can, or is sparse. */
import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
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
/**
 * Bytes of a long copy after which it is synced to the disk. If all of it were synced at the end,
 * every other sync would wait for it.
 */
const syncedBytes = 64 * 2 ** 20
const readAsync = promisify(read)

/** Whether a copy is on the disk when the function ends, or the caller syncs the copy. */
type Synced = 'now' | 'later'

/**
 * Copies a file and waits until the copy is on the disk. Its owner can write to the copy. After an
 * error there is no copy.
 *
 * @param source a file that is open for reading
 * @param to a name that does not exist yet; no link is followed there
 * @param bytes the copy has at least this many of the first bytes
 */
export function copyFile(
  source: number,
  to: string,
  bytes = Infinity,
  synced: Synced = 'now',
): void {
  if (cloneFile(source, to, synced)) return
  const file = openSync(to, 'wx', 0o600)
  try {
    copySparse(source, file, bytes)
    if (synced === 'now') fsyncSync(file)
  } catch (error) {
    rmSync(to, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
}

/** As `copyFile`, but only if the file system can share the data. @returns whether it could */
export function cloneFile(source: number, to: string, synced: Synced = 'now'): boolean {
  if (!clone(source, to)) return false
  try {
    const file = openRegularFile(to)
    try {
      fchmodSync(file, 0o600)
      if (synced === 'now') fsyncSync(file)
    } finally {
      closeSync(file)
    }
  } catch (error) {
    rmSync(to, { force: true })
    throw error
  }
  return true
}

/**
 * Gives a file a further name. Copies the file if the file system has no hard links: only a regular file,
 * and no symbolic link.
 */
export function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to)
  } catch {
    copyFileAt(from, to)
  }
}

function copyFileAt(from: string, to: string): void {
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

/** Blocks of zeros become holes. (The kernel's own copying would fill the holes of the source.) */
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
 * Copies the first bytes of a large file and waits until they are on the disk. Does not block: the
 * server goes on to serve.
 *
 * @param openSource opens the source for reading
 * @param to a name that does not exist yet
 * @param beforePiece called before each piece with its number of bytes; if it throws, the copy ends
 * @throws the error of `beforePiece`, or one of the file system; the copy is removed then
 */
export async function copyBeginning(
  openSource: () => number | Promise<number>,
  to: string,
  bytes: number,
  beforePiece: (bytes: number) => void,
): Promise<void> {
  const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, bytes))
  const source = await openSource()
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

/** The runs of blocks of the chunk that are not all zeros. */
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
