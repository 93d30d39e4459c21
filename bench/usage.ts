import { readFileSync } from 'node:fs'

export interface Usage {
  seconds: number
  /** The peak of the largest process, and the sum of the peaks of all. Bytes. */
  peak: number
  peaks: number
}

/** Processor time, and peak memory, of a process and all its descendants, by proc(5). */
export function usage(pid: number): Usage {
  const ticks = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  // utime, stime, cutime and cstime, in hundredths of a second.
  let seconds = ticks.slice(11, 15).reduce((sum, value) => sum + Number(value), 0) / 100
  let highest = Number(peak ?? 0) * 1024
  let peaks = highest
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  for (const child of children === '' ? [] : children.split(' ')) {
    try {
      const its = usage(Number(child))
      seconds += its.seconds
      peaks += its.peaks
      highest = Math.max(highest, its.peak)
    } catch {
      // The child has ended meanwhile, so its parent's cutime includes it.
    }
  }
  return { seconds, peak: highest, peaks }
}
