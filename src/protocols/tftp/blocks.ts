/** The DATA packets of a transfer: read in large steps, and kept while they may be sent again. */
import type { Content } from './content.ts'
import { headerBytes, writeDataHeader } from './packet.ts'

export interface Blocks {
  /**
   * The packet of a block; the first block is 1. The packet stays valid until the caller asks for a
   * block that is a window or more later.
   *
   * @returns undefined after the last block
   * @throws the errors of `Content`
   */
  packet(block: number): Buffer | undefined
  isLast(block: number): boolean
}

/** How many bytes are read at once. Each transfer has a buffer of this size. */
const readBytes = 1 << 14

/** A block may be asked for again until a block `windowSize` or more later was asked for. */
export function createBlocks(content: Content, blockSize: number, windowSize: number): Blocks {
  const step = Math.max(1, Math.floor(readBytes / blockSize))
  /** One for each block of a window. */
  const packets: Buffer[] = []
  let made = 0
  let last: { block: number; packet: Buffer } | undefined
  /** Bytes that were read; the block after the last packet begins at `next`. */
  let read = Buffer.alloc(0)
  let [next, end] = [0, 0]

  function readOn(): void {
    // Read only one window at first: the client may have forged its address.
    const wanted = blockSize * (made === 0 ? windowSize : step)
    if (read.length !== wanted) read = Buffer.allocUnsafe(wanted)
    end = content(read)
    next = 0
  }

  function make(): void {
    // All reads are whole blocks, except at the end.
    if (next === end) readOn()
    made++
    const bytes = Math.min(blockSize, end - next)
    const isLast = bytes < blockSize
    // The last block is shorter than the others, or empty. [RFC 1350 §2]
    const packet = isLast
      ? makePacket(bytes)
      : (packets[made % windowSize] ??= makePacket(blockSize))
    writeDataHeader(packet, made)
    read.copy(packet, headerBytes, next, next + bytes)
    next += bytes
    if (isLast) last = { block: made, packet }
  }

  return {
    packet(block) {
      while (block > made && !last) make()
      if (last && block >= last.block) return block === last.block ? last.packet : undefined
      return packets[block % windowSize]
    },
    isLast: (block) => block === last?.block,
  }
}

function makePacket(dataBytes: number): Buffer {
  return Buffer.allocUnsafe(headerBytes + dataBytes)
}
