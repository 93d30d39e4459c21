/**
 * Which hardware addresses a machine of the file has, and by which of them the site knows it.
 *
 * Anybody on the network can claim any serial number. So a claim counts only for a machine whose hardware address
 * the file does not give, and what was applied before stays first.
 */
import { isSameSerial } from '../../serial-number.ts'
import type { Declarations } from '../declarations.ts'
import type { DesiredMachine } from './desired.ts'

/** What a site knows of its machines. */
export interface SiteMachines {
  /** The machines that have booted, or for which somebody chose or named something, by key. */
  lastStarted: ReadonlyMap<string, number>
  /** The machines that are in a group, or have a good generation. */
  settled: ReadonlySet<string>
  /** Names by machine. */
  names: ReadonlyMap<string, string>
  /** What the file said of machines when it was applied last. */
  declarations: Declarations
  /** Serial numbers by hardware address, as the server has seen them. */
  serials: ReadonlyMap<string, string>
}

export interface MachineWithCards {
  /** With all its hardware addresses. */
  desired: DesiredMachine
  /** By which the site knows it. undefined: it has no hardware address */
  key: string | undefined
  /** Hardware addresses that told its serial number, and that it has once the file is applied. */
  claimed: readonly string[]
  /** Hardware addresses that told its serial number, and that other machines have. */
  ignored: readonly string[]
}

export function findCards(
  machines: readonly DesiredMachine[],
  site: SiteMachines,
): MachineWithCards[] {
  const written = new Set(machines.flatMap(({ macs }) => macs))
  const applied = machines.map((desired) =>
    isBySerial(desired) ? appliedTo(desired, site).filter((mac) => !written.has(mac)) : [],
  )
  const taken = new Set([...written, ...applied.flat()])
  return machines.map((desired, at) => {
    if (!isBySerial(desired)) {
      return { desired, key: keyOf(desired, site), claimed: [], ignored: [] }
    }
    const before = applied[at] ?? []
    const claims = claimsOf(desired, site).filter((mac) => !before.includes(mac))
    const claimed = claims.filter((mac) => !taken.has(mac))
    const all = [...before, ...claimed]
    const key = keyOf({ ...desired, macs: all }, site)
    // DHCP gives the address of the machine to the first one.
    const macs = key === undefined ? all : [key, ...all.filter((mac) => mac !== key)]
    const ignored = claims.filter((mac) => taken.has(mac))
    return { desired: { ...desired, macs }, key, claimed, ignored }
  })
}

function isBySerial({ macs, serials }: DesiredMachine): boolean {
  return macs.length === 0 && serials.length > 0
}

/** The key first, and then the others in their order. */
function appliedTo({ serials }: DesiredMachine, { declarations }: SiteMachines): string[] {
  const found = [...declarations].filter(([, before]) =>
    before.serials.some((one) => serials.some((other) => isSameSerial(one, other))),
  )
  return [...new Set(found.flatMap(([machine, { macs }]) => [machine, ...macs]))]
}

function claimsOf({ serials }: DesiredMachine, site: SiteMachines): string[] {
  return [...site.serials]
    .filter(([, told]) => serials.some((serial) => isSameSerial(serial, told)))
    .map(([mac]) => mac)
    .toSorted()
}

/** Its layer, its generations and its host key have this name, so the one that has most to lose comes first. */
function keyOf(
  { name, macs }: DesiredMachine,
  { lastStarted, settled, names, declarations }: SiteMachines,
): string | undefined {
  const isNamed = (mac: string) => names.get(mac) === name
  return (
    macs.find((mac) => declarations.has(mac) && isNamed(mac)) ??
    macs.find((mac) => declarations.has(mac)) ??
    macs.find(isNamed) ??
    macs.find((mac) => settled.has(mac)) ??
    macs.find((mac) => lastStarted.has(mac)) ??
    macs[0]
  )
}
