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
const slash = Buffer.from('/')

/** @param write gets chunks that are valid only during the call */
export function dumpNar(path: string, write: (chunk: Buffer) => void): void {
  const buffer = Buffer.allocUnsafe(bufferBytes)
  let filled = 0

  function flush(): void {
    if (filled > 0) write(buffer.subarray(0, filled))
    filled = 0
  }

  function put(bytes: Buffer): void {
    if (bytes.length > buffer.length - filled) flush()
    filled += bytes.copy(buffer, filled)
  }

  function putSize(size: number): void {
    if (8 > buffer.length - filled) flush()
    buffer.writeUInt32LE(size % 2 ** 32, filled)
    buffer.writeUInt32LE(Math.floor(size / 2 ** 32), filled + 4)
    filled += 8
  }

  function putPadding(size: number): void {
    if (8 > buffer.length - filled) flush()
    const count = paddingOf(size)
    buffer.fill(0, filled, filled + count)
    filled += count
  }

  function putString(bytes: Buffer): void {
    putSize(bytes.length)
    put(bytes)
    putPadding(bytes.length)
  }

  function putFile(path: Buffer): void {
    const fd = openSync(path, 'r')
    try {
      const { mode, size } = fstatSync(fd)
      put(words.regular)
      if ((mode & 0o100) !== 0) put(words.executable)
      put(words.contents)
      putSize(size)
      for (let left = size; left > 0;) {
        if (filled === buffer.length) flush()
        const count = readSync(fd, buffer, filled, Math.min(left, buffer.length - filled), null)
        if (count === 0) throw changed(path, 'it became shorter')
        filled += count
        left -= count
      }
      putPadding(size)
    } finally {
      closeSync(fd)
    }
  }

  function putDirectory(path: Buffer, depth: number): void {
    if (depth >= maxDepth)
      throw unsupported(path, `it is nested deeper than ${maxDepth} directories`)
    put(words.directory)
    const entries = readdirSync(path, { withFileTypes: true, encoding: 'buffer' })
    entries.sort((a, b) => a.name.compare(b.name))
    for (const entry of entries) {
      put(words.entry)
      putString(entry.name)
      put(words.node)
      putNode(Buffer.concat([path, slash, entry.name]), entry, depth + 1)
      put(words.close)
    }
  }

  function putNode(path: Buffer, kind: NodeKind, depth: number): void {
    if (kind.isFile()) putFile(path)
    else if (kind.isDirectory()) putDirectory(path, depth)
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
    putNode(root, lstatSync(root), 0)
    flush()
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
