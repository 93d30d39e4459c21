/** Sends a file, or parts of it. */
import type { ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'

import { hasChanged, type OpenBootFile } from '../boot-files.ts'
import type { Range } from './range.ts'

/** A range of the file, or the text between two ranges. */
export type BodyPart = Buffer | Range

const readBytes = 1 << 18

export function bodyLength(parts: readonly BodyPart[]): number {
  return parts.reduce((sum, part) => sum + partLength(part), 0)
}

function partLength(part: BodyPart): number {
  return Buffer.isBuffer(part) ? part.length : part.last - part.first + 1
}

/**
 * @param onBytes called after each piece with its length
 * @throws if the client closed the connection, or if the file changed meanwhile; then the answer is
 *     too short, so the client notices
 */
export async function sendBody(
  response: ServerResponse,
  file: OpenBootFile,
  parts: readonly BodyPart[],
  onBytes: (count: number) => void,
): Promise<void> {
  await pipeline(async function* () {
    for (const part of parts) {
      if (Buffer.isBuffer(part)) yield part
      else yield* read(file, part, onBytes)
    }
  }, response)
}

async function* read(
  file: OpenBootFile,
  { first, last }: Range,
  onBytes: (count: number) => void,
): AsyncIterable<Buffer> {
  for (let position = first; position <= last;) {
    const wanted = Math.min(readBytes, last + 1 - position)
    const buffer = Buffer.allocUnsafeSlow(wanted)
    const { bytesRead } = await file.handle.read(buffer, 0, wanted, position)
    if (bytesRead === 0) throw new Error('the file became shorter while it was sent')
    position += bytesRead
    if (position > last && hasChanged(file)) {
      throw new Error('the file changed while it was sent')
    }
    yield buffer.subarray(0, bytesRead)
    onBytes(bytesRead)
  }
}
