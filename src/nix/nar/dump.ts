/** Writes a file system tree as a NAR, as `nix-store --dump` does. */
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'

import { fileSystemError, NetimageError } from '../../errors.ts'
import { maxDepth, paddingOf, words } from './format.ts'

const bufferBytes = 256 * 1024
/** More than all that is put between two looks at how full the buffer is: a name, or a target. */
const moreBytes = 8 * 1024
const slash = Buffer.from('/')

/** @param write gets chunks that are valid only during the call */
export function dumpNar(path: string, write: (chunk: Buffer) => void): void {
  for (const chunk of narChunks(path)) write(chunk)
}

/** Reads no more files than the next chunk needs. A chunk is valid only until the next one is asked for. */
export function* narChunks(path: string): Generator<Buffer, void> {
  const buffer = Buffer.allocUnsafe(bufferBytes + moreBytes)
  let filled = 0

  const isFull = () => filled >= bufferBytes

  function take(): Buffer {
    const chunk = buffer.subarray(0, filled)
    filled = 0
    return chunk
  }

  function put(bytes: Buffer): void {
    filled += bytes.copy(buffer, filled)
  }

  function putSize(size: number): void {
    buffer.writeUInt32LE(size % 2 ** 32, filled)
    buffer.writeUInt32LE(Math.floor(size / 2 ** 32), filled + 4)
    filled += 8
  }

  function putPadding(size: number): void {
    const count = paddingOf(size)
    buffer.fill(0, filled, filled + count)
    filled += count
  }

  function putString(bytes: Buffer): void {
    putSize(bytes.length)
    put(bytes)
    putPadding(bytes.length)
  }

  function* putFile(path: Buffer): Generator<Buffer, void> {
    const fd = openSync(path, 'r')
    try {
      const { mode, size } = fstatSync(fd)
      put(words.regular)
      if ((mode & 0o100) !== 0) put(words.executable)
      put(words.contents)
      putSize(size)
      for (let left = size; left > 0;) {
        if (isFull()) yield take()
        const count = readSync(fd, buffer, filled, Math.min(left, bufferBytes - filled), null)
        if (count === 0) throw changed(path, 'it became shorter')
        filled += count
        left -= count
      }
      putPadding(size)
    } finally {
      closeSync(fd)
    }
  }

  function* putDirectory(path: Buffer, depth: number): Generator<Buffer, void> {
    if (depth >= maxDepth)
      throw unsupported(path, `it is nested deeper than ${maxDepth} directories`)
    put(words.directory)
    const entries = readdirSync(path, { withFileTypes: true, encoding: 'buffer' })
    entries.sort((a, b) => a.name.compare(b.name))
    for (const entry of entries) {
      if (isFull()) yield take()
      put(words.entry)
      putString(entry.name)
      put(words.node)
      yield* putNode(Buffer.concat([path, slash, entry.name]), entry, depth + 1)
      put(words.close)
    }
  }

  function* putNode(path: Buffer, kind: NodeKind, depth: number): Generator<Buffer, void> {
    if (kind.isFile()) yield* putFile(path)
    else if (kind.isDirectory()) yield* putDirectory(path, depth)
    else if (kind.isSymbolicLink()) {
      put(words.symlink)
      put(words.target)
      putString(readlinkSync(path, { encoding: 'buffer' }))
    } else throw unsupported(path, 'it is not a regular file, directory or symlink')
    put(words.close)
  }

  try {
    const root = Buffer.from(path)
    put(words.begin)
    yield* putNode(root, lstatSync(root), 0)
    yield take()
  } catch (error) {
    throw fileSystemError(`could not read ${path}`, error)
  }
}

interface NodeKind {
  isFile(): boolean
  isDirectory(): boolean
  isSymbolicLink(): boolean
}

function changed(path: Buffer, how: string): NetimageError {
  return new NetimageError('bad-store', `${path.toString()} changed while it was read: ${how}`, {
    details: { file: path.toString() },
  })
}

function unsupported(path: Buffer, why: string): NetimageError {
  return new NetimageError('bad-store', `${path.toString()} cannot be in a store: ${why}`, {
    details: { file: path.toString() },
  })
}
