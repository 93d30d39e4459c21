/** All machines that the file of a site or the site itself knows, and who of them a selector names. */
import type { Desired, DesiredMachine } from './desired.ts'
import { nearestOf } from './nearest.ts'
import type { Problem } from './problem.ts'
import { addressOf, isPattern, matchesPattern } from './selector.ts'

export interface KnownMachine {
  /** The key by which the site knows it: its hardware address, or its IP address. */
  machine: string
  /** In the file or, if it does not name the machine, in the site. */
  name?: string
  /** What the file says of it. */
  desired?: DesiredMachine
}

/** What a site knows of its machines. */
export interface SiteMachines {
  /** The machines that have booted, or for which somebody chose or named something, by key. */
  lastStarted: ReadonlyMap<string, number>
  /** Names by machine. */
  names: ReadonlyMap<string, string>
}

export interface Catalogue {
  nameOf: (machine: string) => string
  get: (machine: string) => KnownMachine
  /** @returns undefined if nobody has this name; none or many for a pattern */
  find: (selector: string) => readonly string[] | undefined
  /** @returns undefined if no name is near */
  nearest: (name: string) => string | undefined
  /** The machines that the file names, in its order. */
  named: readonly KnownMachine[]
  problems: readonly Problem[]
}

export function makeCatalogue({ machines }: Desired, site: SiteMachines): Catalogue {
  const known = new Map<string, KnownMachine>()
  /** undefined: the file names it, but not how the site can know it. */
  const byName = new Map<string, string | undefined>()
  const byAddress = new Map<string, string>()
  const named: KnownMachine[] = []
  const problems = [...repeated(machines), ...unreachable(machines)]
  for (const desired of machines) {
    const machine = keyOf(desired, site)
    byName.set(desired.name, machine)
    if (machine === undefined || known.has(machine)) continue
    const entry = { machine, name: desired.name, desired }
    known.set(machine, entry)
    named.push(entry)
    for (const mac of desired.macs) byAddress.set(mac, machine)
  }
  for (const machine of new Set([...site.lastStarted.keys(), ...site.names.keys()])) {
    const name = site.names.get(machine)
    const isOtherCard = (byAddress.get(machine) ?? machine) !== machine
    if (name !== undefined && byName.has(name) && byName.get(name) !== machine) {
      problems.push(takenName(name, machine, isOtherCard))
    }
    if (isOtherCard || known.has(machine)) continue
    known.set(machine, { machine, ...(name !== undefined && { name }) })
    if (name !== undefined && !byName.has(name)) byName.set(name, machine)
  }
  const get = (machine: string) => known.get(machine) ?? { machine }
  const nameOf = (machine: string) => get(machine).name ?? machine
  const sorted = [...known.keys()].toSorted((one, other) => compare(nameOf(one), nameOf(other)))
  return {
    ...{ nameOf, get, named, problems },
    find(selector) {
      if (isPattern(selector)) return sorted.filter((machine) => isMatch(selector, get(machine)))
      const address = addressOf(selector)
      if (address !== undefined) return [byAddress.get(address) ?? address]
      const machine = byName.get(selector)
      if (machine !== undefined) return [machine]
      return byName.has(selector) ? [] : undefined
    },
    nearest: (name) => nearestOf(name, byName.keys()),
  }
}

/**
 * A machine can have several network cards. It is the one that the site saw last.
 *
 * @returns undefined if it has no hardware address
 */
function keyOf({ macs }: DesiredMachine, { lastStarted }: SiteMachines): string | undefined {
  const [newest] = macs.toSorted(
    (one, other) => (lastStarted.get(other) ?? -1) - (lastStarted.get(one) ?? -1),
  )
  return newest
}

function isMatch(pattern: string, { machine, name, desired }: KnownMachine): boolean {
  const addresses = [machine, ...(desired?.macs ?? [])]
  const texts = [...addresses, ...addresses.map((each) => each.replaceAll(':', '-'))]
  return [...texts, ...(name === undefined ? [] : [name])].some((text) =>
    matchesPattern(pattern, text),
  )
}

/** In the order of bytes: it must not depend on the language of the person. */
function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0
}

const mayNotRepeat: readonly {
  key: string
  what: string
  valuesOf: (machine: DesiredMachine) => readonly string[]
}[] = [
  { key: 'mac', what: 'the hardware address', valuesOf: ({ macs }) => macs },
  { key: 'serial', what: 'the serial number', valuesOf: ({ serials }) => serials },
  {
    key: 'host-name',
    what: 'the host name',
    valuesOf: ({ hostName }) => (hostName === undefined ? [] : [hostName]),
  },
  {
    key: 'address',
    what: 'the address',
    valuesOf: ({ address }) => (address === undefined ? [] : [address]),
  },
]

function* repeated(machines: readonly DesiredMachine[]): Generator<Problem> {
  for (const { key, what, valuesOf } of mayNotRepeat) {
    const owners = new Map<string, string>()
    for (const machine of machines) {
      for (const value of valuesOf(machine)) {
        const owner = owners.get(value)
        owners.set(value, owner ?? machine.name)
        if (owner === undefined) continue
        const whose = owner === machine.name ? 'it' : `the machine ${owner}`
        yield {
          field: `machine.${machine.name}.${key}`,
          message: `${whose} has ${what} ${value} already`,
          hint: 'Write it once, for the machine that has it.',
        }
      }
    }
  }
}

function* unreachable(machines: readonly DesiredMachine[]): Generator<Problem> {
  for (const { name, macs } of machines) {
    if (macs.length > 0) continue
    yield {
      field: `machine.${name}`,
      message: 'it has no hardware address, and the server knows machines only by this',
      hint: 'Add one: mac = "dc:a6:32:01:02:03". netimage boots shows those of machines that have booted.',
    }
  }
}

function takenName(name: string, machine: string, isOtherCard: boolean): Problem {
  const rename = `Give that one another name: netimage site name ${machine} NAME.`
  const message = isOtherCard
    ? `the site has this name for its other hardware address, ${machine}`
    : `another machine of the site has this name: ${machine}`
  return {
    field: `machine.${name}`,
    message,
    hint: isOtherCard
      ? rename
      : `${rename} Or, if it is the same machine, add this address to mac.`,
  }
}
