import { readFileSync } from 'node:fs'

/** Of a process and all that came of it, by proc(5): processor time, and peak of memory in bytes. */
export function usage(pid: number): { seconds: number; peak: number } {
  const ticks = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  // utime, stime, cutime and cstime, a hundred a second.
  let seconds = ticks.slice(11, 15).reduce((sum, value) => sum + Number(value), 0) / 100
  let highest = Number(peak ?? 0) * 1024
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  for (const child of children === '' ? [] : children.split(' ')) {
    try {
      const its = usage(Number(child))
      seconds += its.seconds
      highest = Math.max(highest, its.peak)
    } catch {
      // It has ended meanwhile, and is counted in its parent.
    }
  }
  return { seconds, peak: highest }
}
