/** Limits what is told, so that floods of invented machines do not hide the events of real machines. */
import type { ServeEvent } from './event.ts'

/** More than a rack of machines needs that boot at the same time. */
const [perSecond, atOnce] = [100, 500]

/** @returns whether this event may be told, which counts it */
export type Limit = (event: ServeEvent) => boolean

/** @param knows whether a machine is known; known machines have a limit of their own */
export function limitInvented(knows: (mac: string) => boolean, now: () => number): Limit {
  const known = allowance(now)
  const unknown = allowance(now)
  return ({ mac }) => (mac !== undefined && knows(mac) ? known() : unknown())
}

/**
 * Limits events that a client causes with a single packet: mounts, and missing or refused files.
 * They have separate limits: loaders that try many names cause many missing files, which must not
 * hide mounts.
 */
export function limitCheap(now: () => number): Limit {
  const mounts = allowance(now)
  const refusals = allowance(now)
  return (event) => {
    if (event.kind === 'nfs' && event.step !== 'refuse') return mounts()
    return !isRefusal(event) || refusals()
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
