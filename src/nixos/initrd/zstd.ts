/**
 * The bytes of one zstd frame, and nothing of what follows it.
 *
 * https://www.rfc-editor.org/rfc/rfc8878#section-3.1
 */
import type { ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'

export async function* zstdFrame(reader: ByteReader): AsyncGenerator<Buffer> {
  // A magic number, and a descriptor that says what the header holds.
  const start = await reader.take(5)
  const descriptor = start.readUInt8(4)
  yield start
  yield await reader.take(headerBytes(descriptor))
  for (;;) {
    const header = await reader.take(3)
    yield header
    const block = header.readUIntLE(0, 3)
    const [isLast, type, size] = [(block & 1) !== 0, (block >> 1) & 3, block >> 3]
    if (type === 3) throw brokenInitrd('its zstd stream has a block of a reserved type')
    // A block of one byte that is repeated `size` times.
    yield await reader.take(type === 1 ? 1 : size)
    if (isLast) break
  }
  if ((descriptor & 4) !== 0) yield await reader.take(4)
}

/** Window, dictionary and content size, after the descriptor. */
function headerBytes(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  return (isSingleSegment ? 0 : 1) + dictionary + contentSize
}
