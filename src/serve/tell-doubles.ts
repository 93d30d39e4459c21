/** Reports that two machines have the same hardware address, but not too often. */
import { NetimageError } from '../errors.ts'
import { allowance } from '../protocols/report-limit.ts'
import { remember } from '../remember.ts'

export interface Double {
  name: string
  /** The IP address that the machine is connected from. */
  first: string
  /** The IP address of the other machine with the same name; undefined: it only boots. */
  second: string | undefined
}

/** In this time, only one address of a machine is reported. Milliseconds. */
const quietMs = 60_000

/** @returns a function to be called at each call; it calls `tell` once for each waiting address */
export function tellDoubles(
  tell: (double: Double) => void,
  now: () => number = () => performance.now(),
): (double: Double) => void {
  const told = new Map<string, true>()
  /** When an address was reported last, by name. Milliseconds. */
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

export function doubleError({ name, first, second }: Double): NetimageError {
  const other = second ?? 'a machine that asks DHCP what to boot'
  const allow = second === undefined ? '' : ` --allow ${second}`
  return new NetimageError(
    'in-use',
    `${other} has the same hardware address as ${first} (${name}), which uses the root of that address: the second machine is refused`,
    {
      details: { field: name, expected: first, ...(second !== undefined && { actual: second }) },
      hint: `If these are two machines (clones, or machines behind a wireless bridge that shows its own address), give each its own hardware address. Or allow both by their IP addresses instead: --allow ${first}${allow}. If this is one machine with a new IP address, it gets its root as soon as its old connection has ended.`,
    },
  )
}
