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

interface Slot {
  packet: Buffer
  data: Buffer
}

const most = { bytes: 1 << 16, blocks: 512 }

/** A block may be asked for again until a block `windowSize` or more later was asked for. */
export function createBlocks(content: Content, blockSize: number, windowSize: number): Blocks {
  const step = Math.min(most.blocks, Math.max(1, Math.floor(most.bytes / blockSize)))
  const slots: Slot[] = []
  let filled = 0
  let last: { block: number; packet: Buffer } | undefined

  function slotOf(block: number): Slot {
    const index = (block - 1) % (windowSize + step)
    return (slots[index] ??= makeSlot(blockSize))
  }

  function readOn(): void {
    // Read only one window at first: the client may have forged its address.
    const count = filled === 0 ? windowSize : step
    const wanted = Array.from({ length: count }, (_, index) => slotOf(filled + 1 + index))
    const bytes = content(wanted.map(({ data }) => data))
    const whole = Math.floor(bytes / blockSize)
    for (const [index, { packet }] of wanted.slice(0, whole).entries()) {
      writeDataHeader(packet, filled + 1 + index)
    }
    filled += whole
    const short = wanted[whole]
    if (!short) return
    // The last block is shorter than the others, or empty. [RFC 1350 §2]
    filled++
    writeDataHeader(short.packet, filled)
    const packet = short.packet.subarray(0, headerBytes + (bytes - whole * blockSize))
    last = { block: filled, packet }
  }

  return {
    packet(block) {
      while (block > filled && !last) readOn()
      if (last && block >= last.block) return block === last.block ? last.packet : undefined
      return slotOf(block).packet
    },
    isLast: (block) => block === last?.block,
  }
}

function makeSlot(blockSize: number): Slot {
  const packet = Buffer.allocUnsafe(headerBytes + blockSize)
  return { packet, data: packet.subarray(headerBytes) }
}
