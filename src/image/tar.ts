/**
 * Writes a tree as a tar archive in GNU format, with the same bytes as GNU tar. Root owns
 * everything, and names are written as bytes, without conversion.
 *
 * https://www.gnu.org/software/tar/manual/html_node/Standard.html
 */
import { createHash } from 'node:crypto'
import { open, lstat, readdir, readlink, type FileHandle } from 'node:fs/promises'

import { joinBytes } from '../byte-paths.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { storeTime } from '../nix/nar/restore.ts'

const blockBytes = 512
const bufferBytes = 1 << 20
/** The archive's length is a multiple of this, as in GNU tar. */
const recordBytes = 20 * blockBytes
const slash = Buffer.from('/')

export interface WrittenTar {
  size: number
  sha256: string
}

/** @param signal checked between files */
export async function writeTar(
  root: string,
  destination: string,
  signal: AbortSignal,
): Promise<WrittenTar> {
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(bufferBytes)
  let filled = 0
  let size = 0

  async function flush(output: FileHandle): Promise<void> {
    hash.update(buffer.subarray(0, filled))
    for (let at = 0; at < filled;) {
      at += (await output.write(buffer, at, filled - at)).bytesWritten
    }
    size += filled
    filled = 0
  }

  async function put(output: FileHandle, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (filled === buffer.length) await flush(output)
      const count = bytes.copy(buffer, filled, at)
      filled += count
      at += count
    }
  }

  async function putFile(output: FileHandle, path: Buffer, length: number): Promise<void> {
    await using input = await open(path)
    for (let left = length; left > 0;) {
      if (filled === buffer.length) await flush(output)
      const room = Math.min(left, buffer.length - filled)
      const { bytesRead } = await input.read(buffer, filled, room)
      if (bytesRead === 0) {
        throw new NetimageError(
          'file-system',
          `${path.toString()} became shorter while it was read`,
          { details: { file: path.toString() } },
        )
      }
      filled += bytesRead
      left -= bytesRead
    }
    await put(output, Buffer.alloc(padding(length)))
  }

  async function visit(output: FileHandle, directory: Buffer, prefix: Buffer): Promise<void> {
    const names = await readdir(directory, { encoding: 'buffer' })
    for (const name of names.sort((a, b) => a.compare(b))) {
      signal.throwIfAborted()
      const path = joinBytes(directory, name)
      const stored = Buffer.concat([prefix, name])
      const stat = await lstat(path)
      const mode = stat.mode & 0o7777
      if (stat.isDirectory()) {
        const below = Buffer.concat([stored, slash])
        await put(output, encodeHeader({ type: '5', name: below, mode, size: 0 }))
        await visit(output, path, below)
      } else if (stat.isSymbolicLink()) {
        const target = await readlink(path, { encoding: 'buffer' })
        await put(output, encodeHeader({ type: '2', name: stored, mode: 0o777, size: 0, target }))
      } else if (stat.isFile()) {
        await put(output, encodeHeader({ type: '0', name: stored, mode, size: stat.size }))
        await putFile(output, path, stat.size)
      } else {
        throw new NetimageError('file-system', `${path.toString()} cannot be part of an image`, {
          details: { file: path.toString() },
        })
      }
    }
  }

  try {
    await using output = await open(destination, 'wx')
    // The server runs as another user, and the umask may be strict.
    await output.chmod(0o644)
    await put(output, encodeHeader({ type: '5', name: Buffer.from('./'), mode: 0o755, size: 0 }))
    await visit(output, Buffer.from(root), Buffer.from('./'))
    // Two empty blocks end an archive.
    const end = 2 * blockBytes
    const rest = (recordBytes - ((size + filled + end) % recordBytes)) % recordBytes
    await put(output, Buffer.alloc(end + rest))
    await flush(output)
  } catch (error) {
    throw fileSystemError(`could not write the archive ${destination}`, error)
  }
  return { size, sha256: hash.digest('hex') }
}

export interface TarHeader {
  /** `0` a regular file, `2` a symlink, `5` a directory */
  type: '0' | '2' | '5'
  name: Buffer
  mode: number
  size: number
  target?: Buffer
}

const fieldBytes = { name: 100, target: 100 }
const longLink = Buffer.from('././@LongLink')

/** The header of a member. GNU members before the header hold names that do not fit into it. */
export function encodeHeader({ type, name, mode, size, target }: TarHeader): Buffer {
  const parts: Buffer[] = []
  if (target && target.length > fieldBytes.target) parts.push(longMember('K', target))
  if (name.length > fieldBytes.name) parts.push(longMember('L', name))
  parts.push(block(type, name, mode, size, storeTime, target))
  return Buffer.concat(parts)
}

/** A member that contains the name or target (NUL-terminated) of the next member. */
function longMember(type: 'K' | 'L', text: Buffer): Buffer {
  const length = text.length + 1
  const content = Buffer.alloc(length + padding(length))
  text.copy(content)
  return Buffer.concat([block(type, longLink, 0o644, length, 0), content])
}

function block(
  type: string,
  name: Buffer,
  mode: number,
  size: number,
  time: number,
  target?: Buffer,
): Buffer {
  const header = Buffer.alloc(blockBytes)
  name.copy(header, 0, 0, fieldBytes.name)
  writeOctal(header, 100, 8, mode)
  writeOctal(header, 108, 8, 0)
  writeOctal(header, 116, 8, 0)
  writeSize(header, size)
  writeOctal(header, 136, 12, time)
  header.write(type, 156, 'latin1')
  target?.copy(header, 157, 0, fieldBytes.target)
  header.write('ustar  \0root\0', 257, 'latin1')
  header.write('root\0', 297, 'latin1')
  // The checksum counts its own field as spaces.
  header.fill(0x20, 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

function writeOctal(header: Buffer, at: number, width: number, value: number): void {
  header.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1')
}

/** Eleven octal digits reach 8 GiB; GNU writes larger sizes in base 256. */
function writeSize(header: Buffer, size: number): void {
  if (size < 8 ** 11) return writeOctal(header, 124, 12, size)
  header.writeUInt8(0x80, 124)
  header.writeBigUInt64BE(BigInt(size), 128)
}

function padding(length: number): number {
  return (blockBytes - (length % blockBytes)) % blockBytes
}
