/** The content of a file as a transfer sends it: unchanged, or as netascii. */
import { readSync, readvSync } from 'node:fs'

import { hasChanged, type OpenBootFile } from '../boot-files.ts'

/**
 * Fills the buffers, one after the other, with the next bytes.
 *
 * @returns the number of bytes written; less than the size of the buffers only at the end
 * @throws if the file cannot be read, or if it has changed since it was opened
 */
export type Content = (buffers: readonly Buffer[]) => number

export function octets(file: OpenBootFile): Content {
  let position = 0
  return (buffers) => {
    const start = position
    const end = Math.min(file.size, start + total(buffers))
    // One call is nearly always enough. If it stops early, each buffer is filled separately.
    if (position < end) position += readvSync(file.handle.fd, buffers, position)
    for (const rest of remainder(buffers, position - start)) {
      if (position >= end) break
      position += readFully(file, rest, position)
    }
    // The file may have grown.
    position = Math.min(position, end)
    if (position === file.size && hasChanged(file)) {
      throw new Error('the file changed while it was sent')
    }
    return position - start
  }
}

const [lineFeed, carriageReturn] = [0x0a, 0x0d]
const readBytes = 1 << 14

/** A line ends with CR LF, and a CR of the file becomes CR NUL. [RFC 1350 §1, RFC 764] */
export function netascii(file: OpenBootFile): Content {
  const read = octets(file)
  const chunk = Buffer.allocUnsafe(readBytes)
  let filled = 0
  let next = 0
  let second: number | undefined

  function nextByte(): number | undefined {
    if (second !== undefined) {
      const byte = second
      second = undefined
      return byte
    }
    if (next === filled) {
      filled = read([chunk])
      next = 0
      if (filled === 0) return undefined
    }
    const byte = chunk[next++]
    if (byte === lineFeed) second = lineFeed
    if (byte === carriageReturn) second = 0
    return byte === lineFeed ? carriageReturn : byte
  }

  return (buffers) => {
    let written = 0
    for (const buffer of buffers) {
      for (let index = 0; index < buffer.length; index++) {
        const byte = nextByte()
        if (byte === undefined) return written
        buffer[index] = byte
        written++
      }
    }
    return written
  }
}

function total(buffers: readonly Buffer[]): number {
  return buffers.reduce((sum, buffer) => sum + buffer.length, 0)
}

function* remainder(buffers: readonly Buffer[], filled: number): Iterable<Buffer> {
  let left = filled
  for (const buffer of buffers) {
    if (left < buffer.length) yield buffer.subarray(left)
    left = Math.max(0, left - buffer.length)
  }
}

function readFully(file: OpenBootFile, into: Buffer, position: number): number {
  let done = 0
  while (done < into.length && position + done < file.size) {
    const read = readSync(file.handle.fd, into, done, into.length - done, position + done)
    if (read === 0) throw new Error('the file became shorter while it was sent')
    done += read
  }
  return done
}
