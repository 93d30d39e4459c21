/**
 * cpio archives that the kernel can unpack: the `newc` format, and its variant with checksums.
 *
 * https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
import type { ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'

export interface InitrdEntry {
  /** The name in the archive: `init`, `./init` or `/init`. */
  name: Buffer
  type: 'file' | 'directory' | 'symlink' | 'other'
  /** Permissions. */
  mode: number
  /** The number of bytes of a file's content, or of a symlink's target. */
  size: number
  /** Only for a symlink. */
  target?: Buffer
  /** Only for a file whose content was asked for. */
  content?: Buffer
}

/** Whether to return the file's content, which is held in memory. */
export type WantsContent = (entry: InitrdEntry) => boolean

const headerBytes = 110
const headerPattern = /^07070[12][0-9A-Fa-f]{104}$/
const trailerName = 'TRAILER!!!'
/** PATH_MAX, for names and targets. The kernel skips entries with a longer one. */
const maxPathBytes = 4096

export function isCpio(start: Buffer): boolean {
  const magic = start.toString('latin1', 0, 6)
  return magic === '070701' || magic === '070702'
}

/**
 * Reads one header, name and content.
 *
 * @returns undefined for the archive's trailer, and for an entry that the kernel skips
 */
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
  // At the end of the stream the padding may be missing.
  await reader.skip((await reader.peek(padding(fileSize))).length)
  return name.toString('latin1') === trailerName && fileSize === 0 ? undefined : entry
}

interface Header {
  mode: number
  fileSize: number
  nameSize: number
  /** The checksum of the content; undefined in the variant without checksums. */
  checksum: number | undefined
}

/** After the magic number, each field has eight hexadecimal digits. */
function parseHeader(bytes: Buffer): Header {
  const text = bytes.toString('latin1')
  if (!headerPattern.test(text))
    throw brokenInitrd('a header in its cpio archive is invalid', { field: 'header' })
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
    throw brokenInitrd('the checksum of a file in it is wrong', { field: 'checksum' })
  }
}

/** Copies the bytes: a view would keep the reader's whole chunk in memory. */
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
