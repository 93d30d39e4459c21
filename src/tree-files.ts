/** The files of a tree as the manifest lists them: everything that is not a store path. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import * as v from 'valibot'

import { joinBytes } from './byte-paths.ts'
import { fileSystemError, NetimageError } from './errors.ts'

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const path = v.pipe(v.string(), v.minLength(1))
const mode = v.pipe(v.string(), v.regex(/^[0-7]{4}$/))

export const treeFileSchema = v.variant('type', [
  v.object({ type: v.literal('directory'), path, mode }),
  v.object({ type: v.literal('symlink'), path, target: v.string() }),
  v.object({
    type: v.literal('file'),
    path,
    mode,
    size: count,
    sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  }),
])

/** Paths are relative to the tree. Paths and targets are escaped by `escapeBytes`. */
export type TreeFile = v.InferOutput<typeof treeFileSchema>

/**
 * @param skip tells whether to leave out a relative path (escaped) and everything below it
 */
export async function listTree(root: string, skip: (path: string) => boolean): Promise<TreeFile[]> {
  const files: TreeFile[] = []
  async function visit(directory: Buffer, prefix: Buffer): Promise<void> {
    const names = await readdir(directory, { encoding: 'buffer' })
    for (const name of names.sort((a, b) => a.compare(b))) {
      const relative = prefix.length > 0 ? joinBytes(prefix, name) : name
      const escaped = escapeBytes(relative)
      if (skip(escaped)) continue
      const absolute = joinBytes(directory, name)
      const file = await describe(absolute, escaped)
      files.push(file)
      if (file.type === 'directory') await visit(absolute, relative)
    }
  }
  try {
    await visit(Buffer.from(root), Buffer.alloc(0))
  } catch (error) {
    throw fileSystemError(`could not read the tree ${root}`, error)
  }
  return files
}

async function describe(absolute: Buffer, path: string): Promise<TreeFile> {
  const stat = await lstat(absolute)
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0')
  if (stat.isDirectory()) return { type: 'directory', path, mode }
  if (stat.isSymbolicLink()) {
    const target = await readlink(absolute, { encoding: 'buffer' })
    return { type: 'symlink', path, target: escapeBytes(target) }
  }
  if (stat.isFile()) {
    return {
      type: 'file',
      path,
      mode,
      size: stat.size,
      sha256: await hashFile(absolute, stat.size),
    }
  }
  throw new NetimageError('file-system', `${absolute.toString()} cannot be part of an image`, {
    details: { file: absolute.toString() },
    hint: 'An image can hold only regular files, directories and symlinks. Linux makes the devices when the machine boots.',
  })
}

/** As many bytes are read at once: for a small file less, because Node takes memory for all of them. */
const [leastBytes, pieceBytes] = [1 << 12, 1 << 20]

/**
 * @param size of the file, if it is known
 * @returns SHA-256 in base16
 */
export async function hashFile(file: string | Buffer, size = pieceBytes): Promise<string> {
  const hash = createHash('sha256')
  const highWaterMark = Math.min(pieceBytes, Math.max(leastBytes, size))
  await pipeline(createReadStream(file, { highWaterMark }), hash)
  return hash.digest('hex')
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * JSON is text, but names are bytes. If a name is not UTF-8, each byte that is not printable ASCII
 * becomes `\xNN`. Backslashes are always escaped, so that different names stay different.
 */
export function escapeBytes(bytes: Buffer): string {
  try {
    return strictUtf8.decode(bytes).replaceAll('\\', '\\\\')
  } catch {
    let text = ''
    for (const byte of bytes) {
      const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c
      text += plain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
    }
    return text
  }
}

/** The bytes that `escapeBytes` wrote. */
export function unescapeBytes(text: string): Buffer {
  const parts = text.split(/(\\\\|\\x[0-9a-f]{2})/)
  return Buffer.concat(
    parts.map((part, index) => {
      if (index % 2 === 0) return Buffer.from(part)
      return part.startsWith('\\x') ? Buffer.from(part.slice(2), 'hex') : Buffer.from('\\')
    }),
  )
}
