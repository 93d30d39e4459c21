/**
 * The frames of a push. Both directions are a row of frames, and each frame is
 *
 * ```
 * kind     1 byte: `M` (a message: JSON in UTF-8) or `D` (data: a piece of a NAR or of a file)
 * length   4 bytes, big endian: the number of bytes that follow
 * body
 * ```
 *
 * The limits of the lengths also limit the memory of the reader.
 */
import type { ByteReader } from '../../nix/byte-reader.ts'

export type FrameKind = 'message' | 'data'

export interface Frame {
  kind: FrameKind
  body: Buffer
}

const letters: Record<FrameKind, number> = { message: 0x4d, data: 0x44 }
const headBytes = 5
/** How much of something that is no frame an error shows. */
const shownBytes = 200

/** A message with the hashes of all store paths that the largest manifest can have fits. */
export const longestBody: Record<FrameKind, number> = { message: 2 ** 25, data: 2 ** 20 }

/** @throws `RangeError` if the body is too long */
export function encodeFrame({ kind, body }: Frame): Buffer {
  if (body.length > longestBody[kind]) throw new RangeError(`a ${kind} of ${body.length} bytes`)
  const frame = Buffer.allocUnsafe(headBytes + body.length)
  frame.writeUInt8(letters[kind])
  frame.writeUInt32BE(body.length, 1)
  body.copy(frame, headBytes)
  return frame
}

/**
 * @returns undefined at the end of the stream
 * @throws what the reader makes of a stream that is broken
 */
export async function readFrame(reader: ByteReader): Promise<Frame | undefined> {
  const first = await reader.next(1)
  if (!first) return undefined
  const kind = kindOf(first.readUInt8())
  if (!kind) throw reader.broken(`it is no frame: ${await shown(first, reader)}`)
  const length = (await reader.take(headBytes - 1)).readUInt32BE()
  if (length > longestBody[kind]) throw reader.broken(`a ${kind} of ${length} bytes is too long`)
  return { kind, body: await reader.take(length) }
}

function kindOf(letter: number): FrameKind | undefined {
  if (letter === letters.message) return 'message'
  return letter === letters.data ? 'data' : undefined
}

/** Does not wait for more: the other server may not send more. */
async function shown(first: Buffer, reader: ByteReader): Promise<string> {
  const rest = await reader.next(shownBytes)
  return JSON.stringify(Buffer.concat([first, rest ?? Buffer.alloc(0)]).toString())
}
