/** Limits reports, so that floods of invented machines do not hide the reports of real machines. */
import type { Report, ServeEvent } from './event.ts'

/** More than a rack of machines needs that boot at the same time. */
const [perSecond, atOnce] = [100, 500]

/** @param knows whether a machine is known; known machines have a limit of their own */
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
 * Limits events that a client causes with a single packet: mounts, and missing or refused files.
 * They have separate limits: loaders that try many names cause many missing files, which must not
 * hide mounts.
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

/** @returns whether one more may be told of now, and if so counts it */
export function allowance(now: () => number): () => boolean {
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
