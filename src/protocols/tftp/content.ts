/** The content of a file as a transfer sends it: unchanged, or as netascii. */
import { readSync } from 'node:fs'

import { hasChanged, type SharedFile } from '../shared-files.ts'

/**
 * Fills the buffer with the next bytes.
 *
 * @returns the number of bytes written; less than the size of the buffer only at the end
 * @throws if the file cannot be read, or if it has changed since it was opened
 */
export type Content = (into: Buffer) => number

export function octets(file: SharedFile): Content {
  const { content } = file
  let position = 0
  if (content) {
    return (into) => {
      const done = content.copy(into, 0, position)
      position += done
      return done
    }
  }
  return (into) => {
    const wanted = Math.min(into.length, file.size - position)
    let done = 0
    while (done < wanted) {
      const read = readSync(file.fd, into, done, wanted - done, position + done)
      if (read === 0) throw new Error('the file became shorter while it was sent')
      done += read
    }
    position += done
    if (position === file.size && hasChanged(file)) {
      throw new Error('the file changed while it was sent')
    }
    return done
  }
}

const [lineFeed, carriageReturn] = [0x0a, 0x0d]
const readBytes = 1 << 14

/** A line ends with CR LF, and a CR of the file becomes CR NUL. [RFC 1350 §1, RFC 764] */
export function netascii(file: SharedFile): Content {
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
      filled = read(chunk)
      next = 0
      if (filled === 0) return undefined
    }
    const byte = chunk[next++]
    if (byte === lineFeed) second = lineFeed
    if (byte === carriageReturn) second = 0
    return byte === lineFeed ? carriageReturn : byte
  }

  return (into) => {
    for (let index = 0; index < into.length; index++) {
      const byte = nextByte()
      if (byte === undefined) return index
      into[index] = byte
    }
    return into.length
  }
}
