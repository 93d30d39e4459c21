/**
 * Limits the memory that all decoders together use for their windows. A stream states the size of
 * its window at its beginning. The size can be up to 128 MiB, too much for several threads at once.
 */

const totalMiB = 160
const mebibyte = 2 ** 20
/** Smaller windows need no claim. The usual levels of xz and zstd have smaller windows. */
const freeMiB = 8

/** The threads share this buffer: it holds the free memory in MiB. */
export function createDecoderMemory(): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(4)
  new Int32Array(shared)[0] = totalMiB
  return shared
}

export interface MemoryClaim {
  /** Gives back the old claim and takes this one. Blocks the thread until enough memory is free. */
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
      // Release first. Otherwise two threads that both wait for more would wait for each other.
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
