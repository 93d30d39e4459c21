/**
 * Follows boots by what the servers tell: which step each machine has reached, and since when.
 * Nothing runs on the machines for this.
 */
import type { DhcpEvent, FileEvent, MachineClue, ServeEvent } from '../protocols/event.ts'
import { remember } from '../remember.ts'
import type { BootPart } from './boot-parts.ts'
import { expectations, isAfter, type BootStep, type Expectation } from './step.ts'

export interface Boot {
  /** The hardware address; the IP address where that is not known. */
  machine: string
  address?: string
  /** Milliseconds since 1970, as all times here. */
  started: number
  step: BootStep
  /** When each step was reached; what a machine has no need of is left out. */
  steps: Partial<Record<BootStep, number>>
  /** Of the last event, whatever it was. */
  lastSign: number
  /** Sent as boot files. */
  bytes: number
  /** Boot files that are being sent now. */
  sending?: number
  /** Whether it told DHCP that it boots: others may want nothing but an address. */
  asksToBoot?: true
  /** What went wrong last. */
  trouble?: string
}

export interface FollowSettings {
  /** What a boot file is to this machine. */
  partOf: (machine: string, file: string) => BootPart | undefined
  /** Who has an IP address now. */
  nameOf: (address: string) => string
  /** Whether a machine is one of those that are served, by its name. */
  isServed: (machine: string) => boolean
  /** Whether it is the whole root of a machine that is mounted. */
  isRoot: (path: string) => boolean
}

export interface Follower {
  /** @returns the boot that the event is part of, as it is now */
  see(event: ServeEvent, at: number): Boot
  /** The last boot of each machine. */
  boots(): Boot[]
}

/** A loader does not rest so long between its files. Milliseconds. */
const longMs = 60_000
/**
 * No machine is through with a boot so soon: who seems to be makes it up, and would have its root
 * closed and opened without end. Milliseconds.
 */
const shortestMs = 1000

/** Strangers that are remembered: enough to see who asks, and none in the place of a machine. */
const maxStrangers = 64

export function followBoots({ partOf, nameOf, isServed, isRoot }: FollowSettings): Follower {
  const [machines, strangers] = [new Map<string, Boot>(), new Map<string, Boot>()]

  function machineOf({ mac, address }: MachineClue): string {
    return mac ?? (address === undefined ? 'unknown' : nameOf(address))
  }

  /** So does a machine without firmware, that mounts its root again. */
  function beginsAnew(
    event: ServeEvent,
    part: BootPart | undefined,
    boot: Boot,
    at: number,
  ): boolean {
    if (Math.abs(at - boot.started) < shortestMs) return false
    if (isBeforeRoot(event, part)) {
      const isLong = part === 'loader' && at - boot.lastSign > longMs
      return isAfter(boot.step, event.kind === 'dhcp' || isLong ? 'loader' : 'initrd')
    }
    const isMount = event.kind === 'nfs' && event.step === 'mount' && isRoot(event.path)
    return isMount && isAfter(boot.step, 'mount')
  }

  return {
    see(event, at) {
      const machine = machineOf(event)
      const part =
        event.kind === 'tftp' || event.kind === 'http' ? partOf(machine, event.file) : undefined
      const step = stepOf(event, part)
      const isKnown = isServed(machine)
      const last = isKnown ? machines : strangers
      let boot = last.get(machine)
      if (!boot || beginsAnew(event, part, boot, at)) {
        boot = { machine, started: at, step: 'dhcp', steps: {}, lastSign: at, bytes: 0 }
        remember(last, machine, boot, isKnown ? undefined : maxStrangers)
      }
      if (event.address !== undefined) boot.address = event.address
      boot.lastSign = at
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
  }
}

/**
 * Whether nobody does this who has a root already: firmware asks for an address, or a boot file is
 * fetched. Loaders, kernels and initrds ask for addresses as well: these say nothing of an
 * architecture.
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
      return undefined
  }
}

/**
 * What a boot waits for that has given no sign for too long; one that was refused waits for nothing,
 * and of one whose files are on their way the transfer tells when it fails.
 */
export function stallOf(boot: Boot, now: number): Expectation | undefined {
  if (boot.steps[boot.step] === undefined || boot.sending !== undefined) return undefined
  if (boot.step === 'dhcp' && !boot.asksToBoot) return undefined
  const expectation = expectations[boot.step]
  return now - boot.lastSign > expectation.patience * 1000 ? expectation : undefined
}
