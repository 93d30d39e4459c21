// The most memory that a program held at once.

import { readFileSync } from 'node:fs'
import { startNetimage, type Run, type RunSettings } from './netimage.ts'

export type Measured = Run & { peakBytes: number }

/**
 * Runs netimage and watches the peak that the kernel keeps of it; worker threads are part of the
 * process. It only ever grows, so what is missed is what the last moments added.
 */
export async function measureNetimage(args: string[], settings: RunSettings): Promise<Measured> {
  const { child, ended } = startNetimage(args, settings)
  let peakBytes = 0
  const look = () => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
      const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? []
      peakBytes = Math.max(peakBytes, Number(kilobytes ?? 0) * 1024)
    } catch {
      // It has ended.
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

/** What issue and manual promise for any closure. */
export const memoryBound = 400 << 20
