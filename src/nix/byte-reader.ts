/** Reads a stream byte by byte and keeps only one chunk in memory. */
import type { ErrorDetails } from '../errors.ts'

export type Chunks = Iterable<Buffer> | AsyncIterable<Buffer>

export interface ByteReader {
  /** The next `count` bytes, without taking them. Fewer bytes only at the end of the stream. */
  peek(count: number): Promise<Buffer>
  /** Takes exactly `count` bytes. @throws `broken` if the stream ends before */
  take(count: number): Promise<Buffer>
  /** Skips exactly `count` bytes. @throws `broken` if the stream ends before */
  skip(count: number): Promise<void>
  /** Takes the next 1 to `most` bytes, as many as one chunk has. @returns undefined at the end */
  next(most?: number): Promise<Buffer | undefined>
  /** Puts back bytes that were taken last. */
  putBack(bytes: Buffer): void
  close(): Promise<void>
  readonly broken: Broken
}

/** The number of bytes that may still be read, by all readers that share this budget together. */
export interface ByteBudget {
  left: number
}

/** Makes the error for a broken stream. */
export type Broken = (why: string, details?: ErrorDetails) => Error

/** @param broken makes the errors of this reader and of the parsers that read from it */
export function createByteReader(input: Chunks, budget: ByteBudget, broken: Broken): ByteReader {
  const chunks = toGenerator(input)
  let held: Buffer = Buffer.alloc(0)

  async function pull(): Promise<Buffer | undefined> {
    const next = await chunks.next()
    if (next.done === true) return undefined
    budget.left -= next.value.length
    if (budget.left < 0)
      throw broken('it is larger than the memory of any machine', { field: 'size' })
    return next.value
  }

  function shift(count: number): Buffer {
    const bytes = held.subarray(0, count)
    held = held.subarray(bytes.length)
    return bytes
  }

  async function next(most = Infinity): Promise<Buffer | undefined> {
    while (held.length === 0) {
      const bytes = await pull()
      if (!bytes) return undefined
      held = bytes
    }
    return shift(Math.min(most, held.length))
  }

  async function peek(count: number): Promise<Buffer> {
    // Concatenate only once, because chunks may be tiny.
    const parts = [held]
    let length = held.length
    while (length < count) {
      const bytes = await pull()
      if (!bytes) break
      parts.push(bytes)
      length += bytes.length
    }
    if (parts.length > 1) held = Buffer.concat(parts)
    return held.subarray(0, count)
  }

  return {
    broken,
    next,
    peek,
    async take(count) {
      if ((await peek(count)).length < count) throw broken('it is cut off', { field: 'end' })
      return shift(count)
    },
    async skip(count) {
      for (let left = count; left > 0;) {
        const bytes = await next(left)
        if (!bytes) throw broken('it is cut off', { field: 'end' })
        left -= bytes.length
      }
    },
    putBack(bytes) {
      if (bytes.length > 0) held = held.length === 0 ? bytes : Buffer.concat([bytes, held])
    },
    async close() {
      await chunks.return(undefined)
    },
  }
}

async function* toGenerator(input: Chunks): AsyncGenerator<Buffer, undefined> {
  yield* input
  return undefined
}
