// Measures the largest amount of memory that a program used at once.

import { startNetimage, type Run, type RunSettings } from './netimage.ts'
import { peakMemoryOf } from './processes.ts'

export type Measured = Run & { peakBytes: number }

/**
 * Runs netimage and reads the peak from the kernel, again and again. The peak includes worker
 * threads and never decreases. So only the growth in the last moments can be missed.
 */
export async function measureNetimage(args: string[], settings: RunSettings): Promise<Measured> {
  const { child, ended } = startNetimage(args, settings)
  let peakBytes = 0
  const look = () => {
    try {
      if (child.pid !== undefined) peakBytes = Math.max(peakBytes, peakMemoryOf(child.pid))
    } catch {
      // The process has ended.
    }
  }
  const timer = setInterval(look, 10)
  try {
    const run = await ended
    if (peakBytes === 0) throw new Error('The memory of the program was never seen.')
    return { ...run, peakBytes }
  } finally {
    clearInterval(timer)
  }
}

/** The limit that the documents promise for any closure. */
export const memoryBound = 400 << 20
