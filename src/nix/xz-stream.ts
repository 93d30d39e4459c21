/**
 * Reads the bytes of one xz stream and stops at its end.
 *
 * The header of a stream does not have its length, but each chunk of compressed data has its own.
 * So we find the end without decompressing. We also find the header of each block, with the size of
 * the dictionary, before the decoder allocates it. https://tukaani.org/xz/xz-file-format.txt
 */
import type { ByteReader } from './byte-reader.ts'
import type { HoldMemory } from './compression.ts'
import { boundedDictionaryBytes } from './xz-block-header.ts'

const magic = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])

/** The size of a check for each type of check, which the stream's header names. */
const checkBytes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]

/** @param hold gets the dictionary size of each block, before the block's bytes are yielded */
export async function* xzStream(
  reader: ByteReader,
  hold: HoldMemory = () => undefined,
): AsyncGenerator<Buffer> {
  if (!(await reader.peek(magic.length)).equals(magic))
    throw reader.broken('it is not xz', { field: 'magic' })
  const header = await reader.take(12)
  const check = checkBytes[header.readUInt8(7) & 0xf] ?? 0
  yield header
  let blocks = 0
  // A block begins with the length of its header, the index begins with 0.
  for (; (await peekByte(reader)) !== 0; blocks++) yield* block(reader, check, hold)
  yield* index(reader, blocks)
  yield await reader.take(12)
}

async function* block(reader: ByteReader, check: number, hold: HoldMemory): AsyncGenerator<Buffer> {
  const header = await reader.take(((await peekByte(reader)) + 1) * 4)
  hold(boundedDictionaryBytes(header))
  yield header
  let size = 0
  for await (const part of lzma2Chunks(reader)) {
    size += part.length
    yield part
  }
  yield await reader.take(padding(size) + check)
}

/** LZMA2 is always the last filter of a block. Each chunk begins with a byte for its type. */
async function* lzma2Chunks(reader: ByteReader): AsyncGenerator<Buffer> {
  for (;;) {
    const control = await peekByte(reader)
    if (control === 0) {
      yield await reader.take(1)
      return
    }
    if (control > 2 && control < 0x80) throw reader.broken('its xz stream is damaged')
    const isCompressed = control >= 0x80
    // The field has the size minus one. In some chunks a byte of properties follows the field.
    const header = await reader.take(isCompressed ? (control >= 0xc0 ? 6 : 5) : 3)
    yield header
    yield await reader.take(header.readUInt16BE(isCompressed ? 3 : 1) + 1)
  }
}

/** `takeNumber` makes a buffer for each byte. Yield after this many, to bound the memory. */
const maxIndexParts = 4096

/** The index has two numbers for each block. The decoder checks them. */
async function* index(reader: ByteReader, blocks: number): AsyncGenerator<Buffer> {
  const parts = [await reader.take(1)]
  const count = await takeNumber(reader, parts)
  if (count !== blocks) throw reader.broken('its xz stream is damaged')
  let length = 0
  for (let left = 2 * count; left > 0; left--) {
    await takeNumber(reader, parts)
    if (parts.length < maxIndexParts) continue
    length += parts.length
    yield Buffer.concat(parts.splice(0))
  }
  length += parts.length
  yield Buffer.concat(parts)
  // Padding and a checksum.
  yield await reader.take(padding(length) + 4)
}

/** Reads a number with seven bits in each byte, lowest bits first. Appends the bytes to `parts`. */
async function takeNumber(reader: ByteReader, parts: Buffer[]): Promise<number> {
  let value = 0
  for (let shift = 0; shift < 63; shift += 7) {
    const part = await reader.take(1)
    parts.push(part)
    const byte = part.readUInt8(0)
    value += (byte & 0x7f) * 2 ** shift
    if ((byte & 0x80) === 0) return value
  }
  throw reader.broken('its xz stream is damaged')
}

async function peekByte(reader: ByteReader): Promise<number> {
  const [byte] = await reader.peek(1)
  if (byte === undefined) throw reader.broken('its xz stream is cut off', { field: 'end' })
  return byte
}

function padding(length: number): number {
  return (4 - (length % 4)) % 4
}
