/**
 * Follows boots by the events of the servers: which step each machine has reached, and since when.
 * No program runs on the machines for this.
 */
import type { DhcpEvent, FileEvent, MachineClue, ServeEvent } from '../protocols/event.ts'
import { remember } from '../remember.ts'
import type { BootPart } from './boot-parts.ts'
import { expectations, isAfter, type BootStep, type Expectation } from './step.ts'

export interface Boot {
  /** The hardware address, or the IP address if the hardware address is not known. */
  machine: string
  address?: string
  /** Milliseconds since 1970, as all times here. */
  started: number
  step: BootStep
  /** When each step was reached. Steps that the machine skips are left out. */
  steps: Partial<Record<BootStep, number>>
  /** The time of the last event of any kind. */
  lastSign: number
  /** Bytes of boot files that were sent. */
  bytes: number
  /** How many boot files are being sent now. */
  sending?: number
  /** Whether the machine told DHCP that it boots. Other machines may only want an address. */
  asksToBoot?: true
  /** The last problem. */
  trouble?: string
  /** An earlier run of the server saw this boot. This run has seen no sign of the machine yet. */
  isFromBefore?: true
}

export interface FollowSettings {
  /** The part of a boot file in the boot of a machine. */
  partOf: (machine: string, file: string) => BootPart | undefined
  /** The name of the machine that has an IP address now. */
  nameOf: (address: string) => string
  /** Whether the machine with this name is served. */
  isServed: (machine: string) => boolean
  /** Whether the boots of the machine may be forgotten if there are too many machines. */
  mayForget?: (machine: string) => boolean
  /** Whether a mounted path is the whole root of this machine. */
  isRoot: (path: string, machine: string) => boolean
  /** The last boot of each machine that earlier runs of the server saw, the newest first. */
  earlierBoots?: readonly Boot[]
}

export interface Follower {
  /**
   * The boot that the event belongs to. The event is not counted in: the servers report it later,
   * when they have answered.
   */
  bootOf(event: ServeEvent, at: number): Boot
  /**
   * Whether a machine in this boot does this when it starts again: its firmware asks DHCP, or fetches the
   * file that it fetched first. After that, it fetches all files of the start.
   */
  isStart(event: ServeEvent, boot: Boot): boolean
  /** @returns the boot that the event belongs to, with the event counted in */
  see(event: ServeEvent, at: number): Boot
  /** The last boot of each machine. */
  boots(): Boot[]
}

/** A loader never pauses for this long between two files. Milliseconds. */
const longMs = 60_000
/**
 * The shortest time between two boots of a machine that one run of the server sees. A client that seems to
 * be faster forges its packets. Without this limit, such packets would make the server close and open the
 * root again and again. Milliseconds.
 */
const shortestMs = 1000

/** Machines that are not served are remembered apart, so that they displace none that is served. */
const maxStrangers = 64

export function followBoots(settings: FollowSettings): Follower {
  const { partOf, nameOf, isServed, mayForget, isRoot, earlierBoots = [] } = settings
  const [machines, strangers] = [new Map<string, Boot>(), new Map<string, Boot>()]
  /** The file that firmware fetched first in a boot. It fetches this file again at its next start. */
  const firstFiles = new WeakMap<Boot, string>()
  for (const boot of earlierBoots.toReversed()) {
    if (isServed(boot.machine)) remember(machines, boot.machine, { ...boot, isFromBefore: true })
  }

  function machineOf({ mac, address }: MachineClue): string {
    return mac ?? (address === undefined ? 'unknown' : nameOf(address))
  }

  /**
   * Whether the event begins another boot. Firmware that asks DHCP again, or fetches its first file
   * again, after the machine has fetched a kernel has started again: before that, it may ask several
   * times in one boot. A machine without firmware begins a boot when it mounts its root again.
   */
  function beginsAnew(
    event: ServeEvent,
    part: BootPart | undefined,
    boot: Boot,
    at: number,
  ): boolean {
    if (!boot.isFromBefore && Math.abs(at - boot.started) < shortestMs) return false
    if (isBeforeRoot(event, part)) {
      const isFirst = event.kind === 'dhcp' || part === 'loader'
      if (isFirst && at - boot.lastSign > longMs) {
        return isAfter(boot.step, 'dhcp')
      }
      const isFirstOfLoader = part === 'loader' && isFirstFile(event, boot)
      const isFromFirmware = event.kind === 'dhcp' || isFirstOfLoader
      return isAfter(boot.step, isFromFirmware ? 'loader' : 'initrd')
    }
    const isMount =
      event.kind === 'nfs' && event.step === 'mount' && isRoot(event.path, boot.machine)
    return isMount && isAfter(boot.step, 'mount')
  }

  function partOfEvent(event: ServeEvent, machine: string): BootPart | undefined {
    return event.kind === 'tftp' || event.kind === 'http' ? partOf(machine, event.file) : undefined
  }

  function isFirstFile(event: ServeEvent, boot: Boot): boolean {
    const file = fileOf(event)
    return file !== undefined && file === firstFiles.get(boot)
  }

  function isStart(event: ServeEvent, boot: Boot): boolean {
    const part = partOfEvent(event, boot.machine)
    if (!isBeforeRoot(event, part)) return false
    if (event.kind === 'dhcp' || isFirstFile(event, boot)) return true
    if (firstFiles.has(boot) || isReadLater(fileOf(event) ?? '')) return false
    // An earlier run of the server saw the first file. Some firmware fetches the kernel itself.
    return part === 'loader' || (part !== 'initrd' && boot.steps.loader === undefined)
  }

  function bootOf(event: ServeEvent, at: number): Boot {
    const machine = machineOf(event)
    const isKnown = isServed(machine)
    const known = (isKnown ? machines : strangers).get(machine)
    if (known && !beginsAnew(event, partOfEvent(event, machine), known, at)) return known
    const boot: Boot = { machine, started: at, step: 'dhcp', steps: {}, lastSign: at, bytes: 0 }
    if (isKnown) remember(machines, machine, boot, undefined, mayForget)
    else remember(strangers, machine, boot, maxStrangers)
    return boot
  }

  return {
    bootOf,
    isStart,
    see(event, at) {
      const boot = bootOf(event, at)
      const part = partOfEvent(event, boot.machine)
      const step = stepOf(event, part)
      const file = fileOf(event)
      if (file !== undefined && isBeforeRoot(event, part) && !isAfter(boot.step, 'loader')) {
        if (!firstFiles.has(boot) && !isReadLater(file)) firstFiles.set(boot, file)
      }
      if (event.address !== undefined) boot.address = event.address
      boot.lastSign = at
      delete boot.isFromBefore
      if (event.kind === 'dhcp' && isFirmware(event)) boot.asksToBoot = true
      if (event.kind === 'tftp' || event.kind === 'http') countFile(boot, event)
      const trouble = troubleOf(event)
      if (trouble !== undefined) boot.trouble = trouble
      if (step && boot.steps[step] === undefined) {
        // Some loaders fetch the initrd before the kernel.
        boot.steps[step] = at
        if (boot.steps[boot.step] === undefined || isAfter(step, boot.step)) boot.step = step
        delete boot.trouble
      }
      return boot
    },
    boots: () => [...machines.values(), ...strangers.values()],
  }
}

/** Several stages of a Raspberry Pi read its settings, also after the first look at the kernel. */
function isReadLater(file: string): boolean {
  return /(?:^|\/)config\.txt$/.test(file)
}

function fileOf(event: ServeEvent): string | undefined {
  return event.kind === 'tftp' || event.kind === 'http' ? event.file : undefined
}

function stepOf(event: ServeEvent, part: BootPart | undefined): BootStep | undefined {
  switch (event.kind) {
    case 'dhcp':
      return event.step === 'refuse' ? undefined : 'dhcp'
    case 'tftp':
    case 'http':
      if (event.step === 'begin') {
        return part === 'unified' || part === 'kernel' ? 'kernel' : (part ?? undefined)
      }
      return event.step === 'end' && part === 'unified' ? 'initrd' : undefined
    case 'nfs':
      return event.step === 'mount' ? 'mount' : undefined
    case 'root':
      return event.step
    case 'server':
      return undefined
  }
}

/**
 * Whether a machine does this only before it has a root: its firmware asks for an address, or it
 * fetches a boot file. Loaders, kernels and initrds ask for addresses as well, but they do not name
 * an architecture.
 */
export function isBeforeRoot(event: ServeEvent, part: BootPart | undefined): boolean {
  if (event.kind === 'dhcp') return event.step === 'discover' && isFirmware(event)
  if (event.kind !== 'tftp' && event.kind !== 'http') return false
  return event.step === 'begin' && part !== undefined
}

function countFile(boot: Boot, { step, bytes }: FileEvent): void {
  if (step === 'end') boot.bytes += bytes
  const change = step === 'begin' ? 1 : step === 'end' || step === 'fail' ? -1 : 0
  const sending = (boot.sending ?? 0) + change
  if (sending > 0) boot.sending = sending
  else delete boot.sending
}

function isFirmware({ architecture, vendorClass = '' }: DhcpEvent): boolean {
  return architecture !== undefined || /^(PXEClient|HTTPClient|U-Boot)/.test(vendorClass)
}

function troubleOf(event: ServeEvent): string | undefined {
  switch (event.kind) {
    case 'dhcp':
      return event.step === 'refuse' ? `DHCP: ${event.reason ?? 'refused'}` : undefined
    case 'tftp':
    case 'http':
      if (event.step === 'refuse') return event.reason ?? 'refused'
      if (event.step === 'fail') return `${event.file}: ${event.reason ?? 'the transfer failed'}`
      return event.step === 'missing' ? `${event.file}: there is no such file` : undefined
    case 'nfs':
      if (event.step !== 'refuse') return undefined
      return [event.path, event.reason ?? 'refused'].filter((part) => part !== '').join(': ')
    case 'root':
    case 'server':
      return undefined
  }
}

/** As in the commands and on the page. */
export function saysStall({ next, causes }: Pick<Expectation, 'next' | 'causes'>): string {
  return `expected next: ${next}; likely: ${causes.slice(0, 2).join('; or ')}`
}

/**
 * Tells what should have come next if a boot has given no sign for too long. A boot that was
 * refused is not waited for. If files are being sent, the transfer itself tells when it fails. The
 * server did not see what a machine did while the server was off.
 *
 * @returns undefined if nothing is overdue
 */
export function stallOf(boot: Boot, now: number): Expectation | undefined {
  if (boot.steps[boot.step] === undefined || boot.sending !== undefined) return undefined
  if (boot.isFromBefore) return undefined
  if (boot.step === 'dhcp' && !boot.asksToBoot) return undefined
  const expectation = expectations[boot.step]
  return now - boot.lastSign > expectation.patience * 1000 ? expectation : undefined
}
