/**
 * Memory for calls and replies, which is used again. If it were new for each, Node would collect garbage after
 * every few dozen large ones, and the kernel would have to clear it each time.
 */

export interface Memory {
  bytes: Buffer
  /** A view of `bytes`: a `DataView` is by far the fastest way to write words. */
  view: DataView
}

export interface MemoryPool {
  /** @returns at least so many bytes, of any contents */
  take(least: number): Memory
  /** To be called if nobody uses the memory any more. It may also be left to the garbage collector. */
  giveBack(memory: Memory): void
}

/** A little more than a small call, and READ or WRITE of 64 KiB, 128 KiB (what Linux reads ahead), 256 KiB and 1 MiB. */
const sizes = [16, 80, 144, 272, 1168].map((kibibytes) => kibibytes * 1024)
/** Bytes that are kept for later. */
const mostFree = 16 * 2 ** 20

export function createMemoryPool(): MemoryPool {
  const free = sizes.map((size) => ({ size, unused: [] as Memory[] }))
  let freeBytes = 0
  return {
    take(least) {
      const ofSize = free.find(({ size }) => size >= least)
      const memory = ofSize?.unused.pop()
      if (!memory) return newMemory(ofSize?.size ?? least)
      freeBytes -= memory.bytes.length
      return memory
    },
    giveBack(memory) {
      const { length } = memory.bytes
      const ofSize = free.find(({ size }) => size === length)
      if (!ofSize || freeBytes + length > mostFree) return
      ofSize.unused.push(memory)
      freeBytes += length
    },
  }
}

/** Always new memory, and more than is asked for, so that what grows in it is copied only a few times. */
export const noPool: MemoryPool = { take: (least) => newMemory(least * 2), giveBack() {} }

function newMemory(length: number): Memory {
  const bytes = Buffer.allocUnsafeSlow(length)
  const { buffer, byteOffset, byteLength } = bytes
  return { bytes, view: new DataView(buffer, byteOffset, byteLength) }
}
