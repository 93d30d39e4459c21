/**
 * Splits a zstd stream into its frames.
 *
 * Node's decoder stops silently at the end of the first frame. It accepts a stream that is cut off,
 * and ignores bytes after the end. It does not tell how large a window it will allocate. So this
 * module finds the frames, and the decoder gets one complete frame at a time.
 *
 * https://www.rfc-editor.org/rfc/rfc8878#section-3.1
 */
import type { ByteReader } from './byte-reader.ts'
import type { HoldMemory } from './compression.ts'

const frameMagic = 0xfd2fb528
const skippableMagic = 0x184d2a50
/** 128 MiB: the default limit of zstd's own decoders. */
const maxWindowBytes = 2 ** 27

/**
 * All frames of a stream except skippable frames. The caller must read each frame to its end before
 * it asks for the next one.
 */
export async function* zstdFrames(
  reader: ByteReader,
  hold: HoldMemory,
): AsyncGenerator<AsyncGenerator<Buffer>> {
  for (let isFirst = true; ; isFirst = false) {
    const start = await reader.peek(4)
    if (start.length === 0 && !isFirst) return
    if (start.length === 0) throw reader.broken('it is empty', { field: 'end' })
    const magic = (await peekWhole(reader, 4)).readUInt32LE(0)
    if ((magic & 0xfffffff0) >>> 0 === skippableMagic) {
      const header = await reader.take(8)
      await reader.skip(header.readUInt32LE(4))
    } else if (magic === frameMagic) {
      yield zstdFrame(reader, hold)
    } else {
      throw reader.broken(
        isFirst ? 'it is not zstd' : 'after a frame it has bytes that are not a frame',
        { field: 'magic' },
      )
    }
  }
}

/**
 * The bytes of one frame. Each part is yielded as soon as it arrives.
 *
 * @param hold gets the size of the window, before the decoder can allocate it
 */
export async function* zstdFrame(
  reader: ByteReader,
  hold: HoldMemory = () => undefined,
): AsyncGenerator<Buffer> {
  // A magic number, and a descriptor that says which fields the header has.
  const descriptor = (await peekWhole(reader, 5)).readUInt8(4)
  const header = await reader.take(5 + fieldBytes(descriptor))
  const window = windowBytes(header)
  if (window > maxWindowBytes) {
    const bound = `only ${maxWindowBytes} are allowed`
    throw reader.broken(`its zstd frame needs a window of ${window} bytes, but ${bound}`, {
      ...{ field: 'zstd', expected: maxWindowBytes, actual: window },
    })
  }
  hold(window)
  yield header
  for (let isLast = false; !isLast;) {
    const block = (await peekWhole(reader, 3)).readUIntLE(0, 3)
    const [type, size] = [(block >> 1) & 3, block >> 3]
    isLast = (block & 1) !== 0
    if (type === 3) throw reader.broken('a block has a reserved type', { field: 'block' })
    // A block of type 1 is one byte that is repeated `size` times.
    yield* pass(reader, 3 + (type === 1 ? 1 : size))
  }
  if ((descriptor & 4) !== 0) yield* pass(reader, 4)
}

/** The bytes of the window size, dictionary id and content size, which follow the descriptor. */
function fieldBytes(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  return (isSingleSegment ? 0 : 1) + dictionary + contentSize
}

function windowBytes(header: Buffer): number {
  const descriptor = header.readUInt8(4)
  if ((descriptor & 0x20) === 0) {
    const window = header.readUInt8(5)
    const base = 2 ** (10 + (window >> 3))
    return base + (base / 8) * (window & 7)
  }
  // The window of a single segment is the content size, the last field of the header.
  const flag = descriptor >> 6
  const at = header.length - (1 << flag)
  if (flag === 0) return header.readUInt8(at)
  if (flag === 1) return header.readUInt16LE(at) + 256
  if (flag === 2) return header.readUInt32LE(at)
  return Number(header.readBigUInt64LE(at))
}

async function peekWhole(reader: ByteReader, count: number): Promise<Buffer> {
  const bytes = await reader.peek(count)
  if (bytes.length < count) throw reader.broken('it is cut off', { field: 'end' })
  return bytes
}

async function* pass(reader: ByteReader, count: number): AsyncGenerator<Buffer> {
  for (let left = count; left > 0;) {
    const part = await reader.next(left)
    if (!part) throw reader.broken('it is cut off', { field: 'end' })
    left -= part.length
    yield part
  }
}
