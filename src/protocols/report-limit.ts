/** Keeps who makes up machines from drowning what is told of the real ones. */
import type { Report, ServeEvent } from './event.ts'

/** A shelf of machines that boot at once stays below. */
const [perSecond, atOnce] = [100, 500]

/** @param knows machines that the others do not compete with */
export function limitReports(
  report: Report,
  knows: (mac: string) => boolean,
  now: () => number,
): Report {
  const known = allowance(now)
  const unknown = allowance(now)
  return (event) => {
    const allow = event.mac !== undefined && knows(event.mac) ? known : unknown
    if (allow()) report(event)
  }
}

/**
 * Limits what a single packet brings about: mounts, and that something is not there or not to be had,
 * which loaders that try many names tell of so often that it must not take the place of mounts.
 */
export function limitCheap(report: Report, now: () => number): Report {
  const mounts = allowance(now)
  const refusals = allowance(now)
  return (event) => {
    if (event.kind === 'nfs' && event.step !== 'refuse') {
      if (mounts()) report(event)
    } else if (!isRefusal(event) || refusals()) report(event)
  }
}

function isRefusal({ step }: ServeEvent): boolean {
  return step === 'refuse' || step === 'missing' || step === 'fail'
}

function allowance(now: () => number): () => boolean {
  let left: number = atOnce
  let last = now()
  return () => {
    const time = now()
    left = Math.min(atOnce, left + (Math.max(0, time - last) * perSecond) / 1000)
    last = time
    if (left < 1) return false
    left -= 1
    return true
  }
}
