/** Reads a stream byte by byte, with one chunk of it in memory. */

export type Chunks = Iterable<Buffer> | AsyncIterable<Buffer>

export interface ByteReader {
  /** What comes next, without taking it; fewer bytes than asked for only at the end. */
  peek(count: number): Promise<Buffer>
  /** Exactly so many bytes; an error where the stream ends before. */
  take(count: number): Promise<Buffer>
  /** Passes over so many bytes; an error where the stream ends before. */
  skip(count: number): Promise<void>
  /** What is at hand, at most `most` bytes; undefined at the end. */
  next(most?: number): Promise<Buffer | undefined>
  /** Gives back the end of what was taken last. */
  putBack(bytes: Buffer): void
  close(): Promise<void>
  readonly broken: Broken
}

/** How many bytes may still be read, by all readers that share it. */
export interface ByteBudget {
  left: number
}

/** Makes the error of a stream that is not what it should be. */
export type Broken = (why: string) => Error

/** @param broken also for the parsers that read from this reader */
export function createByteReader(input: Chunks, budget: ByteBudget, broken: Broken): ByteReader {
  const chunks = toGenerator(input)
  let held: Buffer = Buffer.alloc(0)

  async function pull(): Promise<Buffer | undefined> {
    const next = await chunks.next()
    if (next.done === true) return undefined
    budget.left -= next.value.length
    if (budget.left < 0) throw broken('it has more than any machine would hold')
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
    // Put together once: chunks may be tiny.
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
      if ((await peek(count)).length < count) throw broken('it is cut off')
      return shift(count)
    },
    async skip(count) {
      for (let left = count; left > 0;) {
        const bytes = await next(left)
        if (!bytes) throw broken('it is cut off')
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
