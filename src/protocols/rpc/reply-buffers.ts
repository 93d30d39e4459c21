/** A pool of large buffers for writing replies. */
import { XdrWriter } from './xdr.ts'

/** Two replies of the largest kind: the connection sends when one more may not fit. */
const capacity = 2 * (2 ** 20 + 4096)
const maxFree = 8

export interface ReplyBuffers {
  /** @returns an empty buffer */
  take(): XdrWriter
  giveBack(buffer: XdrWriter): void
}

export function createReplyBuffers(): ReplyBuffers {
  const free: XdrWriter[] = []
  return {
    take: () => free.pop() ?? new XdrWriter(capacity),
    giveBack(buffer) {
      buffer.truncate(0)
      if (free.length < maxFree) free.push(buffer)
    },
  }
}
