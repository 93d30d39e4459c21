/**
 * Bounds the memory that an xz stream asks for.
 *
 * The dictionary may be as large as 4 GiB, is allocated before anything is verified, and its size
 * is known from the first block's header alone. `xz -9` uses 64 MiB.
 *
 * https://tukaani.org/xz/xz-file-format.txt (2.1.1, 3.1, 5.3.1)
 */
import { NetimageError } from '../errors.ts'
import type { Chunks, HoldMemory } from './decompress.ts'

const maxDictionaryBytes = 2 ** 27
const streamMagic = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])
const streamHeaderBytes = 12
const maxBlockHeaderBytes = 1024
const lzma2Filter = 0x21

export async function* checkXzDictionary(input: Chunks, hold: HoldMemory): AsyncGenerator<Buffer> {
  let head = Buffer.alloc(0)
  let checked = false
  for await (const chunk of input) {
    if (checked) {
      yield chunk
      continue
    }
    head = Buffer.concat([head, chunk])
    if (head.length < streamHeaderBytes + maxBlockHeaderBytes) continue
    hold(checkHead(head))
    checked = true
    yield head
  }
  if (checked) return
  hold(checkHead(head))
  yield head
}

/** @returns the bytes of the dictionary */
function checkHead(head: Buffer): number {
  if (!head.subarray(0, streamMagic.length).equals(streamMagic)) {
    throw new NetimageError('bad-compression', 'the xz stream is broken: it is not xz')
  }
  return boundedDictionaryBytes(head.subarray(streamHeaderBytes))
}

/** @param block begins with the header of a block, unless the stream has none */
export function boundedDictionaryBytes(block: Buffer): number {
  const dictionary = dictionaryBytes(block) ?? 0
  if (dictionary <= maxDictionaryBytes) return dictionary
  throw new NetimageError(
    'bad-compression',
    `the xz stream wants a dictionary of ${dictionary} bytes, and ${maxDictionaryBytes} are allowed`,
  )
}

/** The dictionary of the LZMA2 filter in a block header; undefined where there is no block. */
function dictionaryBytes(block: Buffer): number | undefined {
  const size = ((block[0] ?? 0) + 1) * 4
  if (block[0] === 0 || block.length < size) return undefined
  const flags = block[1] ?? 0
  let at = 2
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = block[at++] ?? 0
      value += (byte & 0x7f) * 2 ** shift
      if ((byte & 0x80) === 0) break
    }
    return value
  }
  if ((flags & 0x40) !== 0) varint()
  if ((flags & 0x80) !== 0) varint()
  for (let filter = 0; filter <= (flags & 3) && at < size; filter++) {
    const id = varint()
    const propertyBytes = varint()
    if (id === lzma2Filter) {
      const bits = (block[at] ?? 0) & 0x3f
      return bits === 40 ? 2 ** 32 - 1 : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11)
    }
    at += propertyBytes
  }
  return undefined
}
