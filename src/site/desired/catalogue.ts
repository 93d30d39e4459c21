/** All machines that the file of a site or the site itself knows, and who of them a selector names. */
import { isSameSerial } from '../../serial-number.ts'
import type { Desired, DesiredMachine } from './desired.ts'
import { nearestOf } from './nearest.ts'
import { findCards, type MachineWithCards, type SiteMachines } from './network-cards.ts'
import type { Problem } from './problem.ts'
import { addressOf, isPattern, matchesPattern } from './selector.ts'

export interface KnownMachine {
  /** The key by which the site knows it: its hardware address, or its IP address. */
  machine: string
  /** In the file or, if it does not name the machine, in the site. */
  name?: string
  /** What the file says of it, with the hardware addresses that it has by its serial number. */
  desired?: DesiredMachine
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
  /** Sentences without a full stop. */
  notes: readonly string[]
}

export function makeCatalogue({ machines: written }: Desired, site: SiteMachines): Catalogue {
  const found = findCards(written, site)
  const machines = found.map(({ desired }) => desired)
  const known = new Map<string, KnownMachine>()
  /** undefined: the file names it, but not how the site can know it. */
  const byName = new Map<string, string | undefined>()
  const byAddress = new Map<string, string>()
  const named: KnownMachine[] = []
  const problems = [...repeated(machines), ...unreachable(machines), ...lostKeys(machines, site)]
  for (const { desired, key: machine } of found) {
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
      problems.push(isOtherCard ? nameOfCard(name, machine) : takenName(name, machine))
    }
    if (isOtherCard || known.has(machine)) continue
    known.set(machine, { machine, ...(name !== undefined && { name }) })
    if (name !== undefined && !byName.has(name)) byName.set(name, machine)
  }
  problems.push(...sameHostNames([...known.values()]))
  const get = (machine: string) => known.get(machine) ?? { machine }
  const nameOf = (machine: string) => get(machine).name ?? machine
  const sorted = [...known.keys()].toSorted((one, other) => compare(nameOf(one), nameOf(other)))
  return {
    ...{ nameOf, get, named, problems },
    notes: [...unknownSerials(found), ...claims(found), ...joined(named, site)],
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
  /** Default: it is the same text. */
  isSame?: (one: string, other: string) => boolean
}[] = [
  { key: 'mac', what: 'the hardware address', valuesOf: ({ macs }) => macs },
  {
    ...{ key: 'serial', what: 'the serial number' },
    valuesOf: ({ serials }) => serials,
    isSame: isSameSerial,
  },
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
  for (const { key, what, valuesOf, isSame } of mayNotRepeat) {
    const owners = new Map<string, string>()
    for (const machine of machines) {
      for (const value of valuesOf(machine)) {
        const written = isSame ? [...owners.keys()].find((each) => isSame(each, value)) : value
        const owner = written === undefined ? undefined : owners.get(written)
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
  for (const { name, macs, serials } of machines) {
    if (macs.length > 0 || serials.length > 0) continue
    yield {
      field: `machine.${name}`,
      message: 'it has neither a hardware address nor a serial number',
      hint: 'Add one: mac = "dc:a6:32:01:02:03". netimage boots shows those of machines that have booted.',
    }
  }
}

/** The layer and the generations of a machine have the name of one of its hardware addresses. */
function* lostKeys(
  machines: readonly DesiredMachine[],
  { declarations }: SiteMachines,
): Generator<Problem> {
  const named = new Set(machines.flatMap(({ macs }) => macs))
  for (const { name, macs } of machines) {
    for (const [machine, declared] of declarations) {
      if (named.has(machine) || !declared.macs.some((mac) => macs.includes(mac))) continue
      yield {
        field: `machine.${name}.mac`,
        message: `it lacks ${machine}, by which the site knows this machine and what it wrote`,
        hint: 'Keep this address in the list, also if the network card is gone. If it is one of another machine, give it to that one in the file.',
      }
    }
  }
}

/** The name of a machine is its host name if the file gives it no other one. */
function* sameHostNames(known: readonly KnownMachine[]): Generator<Problem> {
  const byName = new Map(
    known.flatMap((each) => (each.name === undefined ? [] : [[each.name, each]])),
  )
  for (const { machine, name, desired } of known) {
    const { hostName } = desired ?? {}
    if (hostName === undefined) continue
    const other = byName.get(hostName)
    if (!other || other.machine === machine || other.desired?.hostName !== undefined) continue
    yield {
      field: `machine.${name ?? machine}.host-name`,
      message: `${other.machine} has this name, so it would have the same host name`,
      hint: `Give one of them another host name, or give that one another name: netimage site name ${other.machine} NAME.`,
    }
  }
}

function unknownSerials(found: readonly MachineWithCards[]): string[] {
  return found.flatMap(({ desired: { name, macs, serials }, ignored }) => {
    if (macs.length > 0 || serials.length === 0) return []
    const besides =
      ignored.length === 0
        ? ''
        : ` besides ${ignored.join(', ')}, which the file gives to another machine,`
    return [
      `machine.${name}: no machine with the serial number ${serials.join(' or ')}${besides} has asked the server yet, so its hardware address is not known; start it once, and plan again`,
    ]
  })
}

function claims(found: readonly MachineWithCards[]): string[] {
  return found.flatMap(({ desired: { name, serials }, claimed }) =>
    claimed.map(
      (mac) =>
        `machine.${name}: ${mac} says that it has the serial number ${serials.join(' or ')}. Once this is applied, it is ${name}: it boots with its root, its host key and its secrets. Anybody on the network can say this; if it is not your machine, give ${name} its hardware address in the file with mac, and no claim counts`,
    ),
  )
}

/** Network cards that were machines of their own until now. */
function joined(named: readonly KnownMachine[], site: SiteMachines): string[] {
  return named.flatMap(({ machine, name = machine, desired }) => {
    const before = site.declarations.get(machine)?.macs ?? []
    const cards = (desired?.macs ?? []).filter((mac) => {
      const hasBooted = (site.lastStarted.get(mac) ?? 0) > 0
      return mac !== machine && hasBooted && !before.includes(mac)
    })
    return cards.map(
      (mac) =>
        `machine.${name}: ${mac} has booted as a machine of its own, and is ${name} once this is applied; switch it off before. What it wrote stays in a layer of its own`,
    )
  })
}

function takenName(name: string, machine: string): Problem {
  return {
    field: `machine.${name}`,
    message: `another machine of the site has this name: ${machine}`,
    hint: `Give that one another name: netimage site name ${machine} NAME. Or, if it is the same machine, add this address to mac.`,
  }
}

/** Another name for that address would let the plan go on, and hide what was written under it. */
function nameOfCard(name: string, card: string): Problem {
  return {
    field: `machine.${name}`,
    message: `the site has this name for its other hardware address, ${card}`,
    hint: 'Two machines of the site would become one, and what one of them wrote would be hidden. Leave this machine the name that it had when it was applied last, or make the other address a machine of its own.',
  }
}
