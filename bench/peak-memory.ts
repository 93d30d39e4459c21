/** The peak of the resident memory of a process and all its descendants. */
import { childrenOf, peakMemoryOf } from '../test/support/processes.ts'

/** Bytes. */
export interface Peaks {
  /** Of the process that needs most. */
  largest: number
  sum: number
}

/** All are zero if the process has ended. */
export function peakMemory(pid: number): Peaks {
  try {
    const own = peakMemoryOf(pid)
    const below = childrenOf(pid).map(peakMemory)
    return {
      largest: Math.max(own, ...below.map(({ largest }) => largest)),
      sum: below.reduce((all, { sum }) => all + sum, own),
    }
  } catch {
    return { largest: 0, sum: 0 }
  }
}
