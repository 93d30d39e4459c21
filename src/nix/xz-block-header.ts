/**
 * Limits the size of the dictionary that the header of an xz block asks for. The format allows
 * 4 GiB; `xz -9` uses 64 MiB.
 *
 * https://tukaani.org/xz/xz-file-format.txt (3.1, 5.3.1)
 */
import { NetimageError } from '../errors.ts'

const maxDictionaryBytes = 2 ** 27
const lzma2Filter = 0x21

/** @param block the header of a block. @returns the size of its dictionary in bytes */
export function boundedDictionaryBytes(block: Buffer): number {
  const dictionary = dictionaryBytes(block) ?? 0
  if (dictionary <= maxDictionaryBytes) return dictionary
  throw new NetimageError(
    'bad-compression',
    `the xz stream needs a dictionary of ${dictionary} bytes, but only ${maxDictionaryBytes} are allowed`,
    { details: { field: 'xz', expected: maxDictionaryBytes, actual: dictionary } },
  )
}

/** The dictionary size of the LZMA2 filter. @returns undefined if there is no such filter */
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
