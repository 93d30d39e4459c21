/** Tells that two IP addresses have one hardware address: rarely enough for a person to read it. */
import { allowance } from '../protocols/report-limit.ts'
import { remember } from '../remember.ts'

export interface Double {
  name: string
  /** The IP address that the machine is connected from. */
  first: string
  /** Another one with the same name, which must wait. */
  second: string
}

/** In which a machine's addresses are told of once, however many it has. */
const quietMs = 60_000

/** @returns to be told of each call; of these `tell` is told once for each address that waits */
export function tellDoubles(
  tell: (double: Double) => void,
  now: () => number = () => performance.now(),
): (double: Double) => void {
  const told = new Map<string, true>()
  /** By name, in milliseconds. */
  const toldAt = new Map<string, number>()
  const allow = allowance(now)
  return (double) => {
    const { name, second } = double
    const pair = `${name} ${second}`
    const last = toldAt.get(name)
    if (told.has(pair) || (last !== undefined && now() - last < quietMs) || !allow()) return
    remember(told, pair, true)
    remember(toldAt, name, now())
    tell(double)
  }
}
