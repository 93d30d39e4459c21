/**
 * cpio archives as the kernel unpacks them: the `newc` format, and its variant with checksums.
 *
 * https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
import type { ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'

export interface InitrdEntry {
  /** As it stands in the archive: `init`, `./init` or `/init`. */
  name: Buffer
  type: 'file' | 'directory' | 'symlink' | 'other'
  /** Permissions. */
  mode: number
  /** Bytes of a file's content, or of a symlink's target. */
  size: number
  /** Of a symlink. */
  target?: Buffer
  /** Of a file whose content was asked for. */
  content?: Buffer
}

/** Of which files the content is wanted; it is held in memory. */
export type WantsContent = (entry: InitrdEntry) => boolean

const headerBytes = 110
const headerPattern = /^07070[12][0-9A-Fa-f]{104}$/
const trailerName = 'TRAILER!!!'
/** Names and targets: PATH_MAX; the kernel passes over what is longer. */
const maxPathBytes = 4096

export function isCpio(start: Buffer): boolean {
  const magic = start.toString('latin1', 0, 6)
  return magic === '070701' || magic === '070702'
}

/** Reads one header, name and content; undefined for an archive's trailer and what is unusable. */
export async function readCpioEntry(
  reader: ByteReader,
  wantsContent: WantsContent,
): Promise<InitrdEntry | undefined> {
  const header = parseHeader(await reader.take(headerBytes))
  const { nameSize, fileSize } = header
  const namePadding = padding(headerBytes + nameSize)
  if (nameSize === 0 || nameSize > maxPathBytes) {
    await reader.skip(nameSize + namePadding + fileSize + padding(fileSize))
    return undefined
  }
  const name = untilNul(await copyOf(reader, nameSize))
  await reader.skip(namePadding)
  const type = typeOf(header.mode)
  const entry: InitrdEntry = { name, type, mode: header.mode & 0o7777, size: fileSize }
  if (type === 'symlink' && fileSize <= maxPathBytes) {
    entry.target = untilNul(await copyOf(reader, fileSize))
  } else if (type === 'file' && wantsContent(entry)) {
    entry.content = await copyOf(reader, fileSize)
    verify(header, entry.content.reduce(addByte, 0))
  } else {
    await passContent(reader, header, type)
  }
  // A stream may end with its last content.
  await reader.skip((await reader.peek(padding(fileSize))).length)
  return name.toString('latin1') === trailerName && fileSize === 0 ? undefined : entry
}

interface Header {
  mode: number
  fileSize: number
  nameSize: number
  /** Of the content, in the variant that has one. */
  checksum: number | undefined
}

/** Fields of eight hexadecimal digits each follow the magic number. */
function parseHeader(bytes: Buffer): Header {
  const text = bytes.toString('latin1')
  if (!headerPattern.test(text)) throw brokenInitrd('a header in its archive is no header')
  const field = (index: number) => Number.parseInt(text.slice(6 + index * 8, 14 + index * 8), 16)
  const hasChecksum = text[5] === '2'
  return {
    mode: field(1),
    fileSize: field(6),
    nameSize: field(11),
    checksum: hasChecksum ? field(12) : undefined,
  }
}

function typeOf(mode: number): InitrdEntry['type'] {
  const format = mode & 0o170000
  if (format === 0o100000) return 'file'
  if (format === 0o040000) return 'directory'
  return format === 0o120000 ? 'symlink' : 'other'
}

async function passContent(
  reader: ByteReader,
  header: Header,
  type: InitrdEntry['type'],
): Promise<void> {
  if (header.checksum === undefined || type !== 'file') return await reader.skip(header.fileSize)
  let sum = 0
  for (let left = header.fileSize; left > 0;) {
    const bytes = await reader.next(left)
    if (!bytes) return await reader.skip(left)
    sum = bytes.reduce(addByte, sum)
    left -= bytes.length
  }
  verify(header, sum)
}

function addByte(sum: number, byte: number): number {
  return (sum + byte) >>> 0
}

function verify({ checksum }: Header, sum: number): void {
  if (checksum !== undefined && checksum !== sum) {
    throw brokenInitrd('a file in it does not have its checksum')
  }
}

/** What a reader hands out is a part of a larger chunk, which would stay in memory with it. */
async function copyOf(reader: ByteReader, count: number): Promise<Buffer> {
  return Buffer.from(await reader.take(count))
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

function padding(length: number): number {
  return (4 - (length % 4)) % 4
}
