/** Sends a file, or parts of it. */
import { read } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { promisify } from 'node:util'

import { hasChanged, type SharedFile } from '../shared-files.ts'
import { beginInTurn } from '../turns.ts'
import type { Range } from './range.ts'

/** A range of the file, or the text between two ranges. */
export type BodyPart = Buffer | Range

const readLater = promisify(read)
const readBytes = 1 << 19

/**
 * Buffers of this size: a new one for each piece costs as much processor time as all the rest of a
 * transfer.
 */
const freeBuffers: Buffer[] = []
const maxFreeBuffers = 16
/** Smaller ones are made anew. */
const poolFromBytes = 1 << 16

export function bodyLength(parts: readonly BodyPart[]): number {
  return parts.reduce((sum, part) => sum + partLength(part), 0)
}

function partLength(part: BodyPart): number {
  return Buffer.isBuffer(part) ? part.length : part.last - part.first + 1
}

export interface Sent {
  /** Whose turns this takes. */
  machine: string
  file: SharedFile
  sendRange: SendRange
}

/**
 * @param onBytes called after each piece with its length
 * @throws if the client closed the connection, or if the file changed meanwhile; then the answer is
 *     too short, so the client notices
 */
export async function sendBody(
  response: ServerResponse,
  { machine, file, sendRange }: Sent,
  parts: readonly BodyPart[],
  onBytes: (count: number) => void,
): Promise<void> {
  const { content } = file
  if (content) {
    const pieces = parts.map((part) =>
      Buffer.isBuffer(part) ? part : content.subarray(part.first, part.last + 1),
    )
    const [only, ...more] = pieces
    const body = more.length === 0 ? only : Buffer.concat(pieces)
    await beginInTurn(machine, () => unlessClosed(response, (done) => response.end(body, done)))
    for (const part of parts) if (!Buffer.isBuffer(part)) onBytes(partLength(part))
    return
  }
  try {
    for (const part of parts) {
      if (Buffer.isBuffer(part)) await unlessClosed(response, (done) => response.write(part, done))
      else await sendRange(response, { machine, file, range: part, onBytes })
    }
    await unlessClosed(response, (done) => response.end(done))
  } catch (error) {
    response.destroy()
    throw error
  }
}

export interface SentRange {
  /** Whose turns this takes. */
  machine: string
  file: SharedFile
  range: Range
  onBytes: (count: number) => void
}

/** @throws the errors of `sendBody` */
export type SendRange = (response: ServerResponse, sent: SentRange) => Promise<void>

export const copyRange: SendRange = async (
  response,
  { machine, file, range: { first, last }, onBytes },
) => {
  const buffer = takeBuffer(last + 1 - first)
  for (let position = first; position <= last;) {
    const wanted = Math.min(buffer.length, last + 1 - position)
    const { bytesRead } = await readLater(file.fd, buffer, 0, wanted, position)
    if (bytesRead === 0) throw new Error('the file became shorter while it was sent')
    position += bytesRead
    if (position > last && hasChanged(file)) {
      throw new Error('the file changed while it was sent')
    }
    const piece = buffer.subarray(0, bytesRead)
    await beginInTurn(machine, () => unlessClosed(response, (done) => response.write(piece, done)))
    onBytes(bytesRead)
  }
  // After an error it is not used again: a part of it may still wait to be sent.
  if (buffer.length === readBytes && freeBuffers.length < maxFreeBuffers) freeBuffers.push(buffer)
}

/** Holds one piece of a range at a time. */
function takeBuffer(rangeBytes: number): Buffer {
  if (rangeBytes < poolFromBytes) return Buffer.allocUnsafeSlow(rangeBytes)
  return freeBuffers.pop() ?? Buffer.allocUnsafeSlow(readBytes)
}

/**
 * Waits for the end of an action. Node never ends it if the client closes the connection while the response waits
 * for an earlier one, or has closed it before.
 */
function unlessClosed(
  response: ServerResponse,
  act: (done: (error?: Error | null) => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new Error('the client closed the connection'))
    // There is no `close` any more.
    if (response.destroyed) {
      onClose()
      return
    }
    response.once('close', onClose)
    act((error) => {
      response.off('close', onClose)
      if (error) reject(error)
      else resolve()
    })
  })
}
