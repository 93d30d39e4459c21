/**
 * The memory that all decoders together may hold as their windows. How much a stream asks for is
 * known when it begins, and is up to 128 MiB: in several threads at once that would be too much.
 */

const totalMiB = 160
const mebibyte = 2 ** 20
/** What the usual levels of xz and zstd ask for is not worth waiting for. */
const freeMiB = 8

/** To be shared by the threads. */
export function createDecoderMemory(): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(4)
  new Int32Array(shared)[0] = totalMiB
  return shared
}

export interface MemoryClaim {
  /** Holds so many bytes, and no longer what was held before. Blocks the thread until it can. */
  hold(bytes: number): void
  release(): void
}

export function claimDecoderMemory(shared: SharedArrayBuffer): MemoryClaim {
  const left = new Int32Array(shared)
  let held = 0

  function release(): void {
    if (held === 0) return
    Atomics.add(left, 0, held)
    Atomics.notify(left, 0)
    held = 0
  }

  return {
    hold(bytes) {
      // First let go: two threads that each wait for more would wait for each other.
      release()
      const wanted = Math.min(Math.ceil(bytes / mebibyte), totalMiB)
      if (wanted <= freeMiB) return
      for (;;) {
        const available = Atomics.load(left, 0)
        if (available < wanted) Atomics.wait(left, 0, available)
        else if (Atomics.compareExchange(left, 0, available, available - wanted) === available) {
          break
        }
      }
      held = wanted
    },
    release,
  }
}
