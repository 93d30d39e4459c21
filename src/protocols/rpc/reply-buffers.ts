/** Large buffers that replies are written into, used again and again. */
import { XdrWriter } from './xdr.ts'

/** Two replies of the largest kind: whoever writes stops after one that goes beyond the first. */
const capacity = 2 * (2 ** 20 + 4096)
const maxFree = 8

export interface ReplyBuffers {
  /** An empty one. */
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
