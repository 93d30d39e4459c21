/**
 * Follows boots by what the servers tell: which step each machine has reached, and since when.
 * Nothing runs on the machines for this.
 */
import type { DhcpEvent, MachineClue, ServeEvent } from '../event.ts'
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
  /** What went wrong last. */
  trouble?: string
}

export interface FollowSettings {
  /** What a boot file is to this machine. */
  partOf: (machine: string, file: string) => BootPart | undefined
  /** The hardware address that stands behind an IP address, where this machine knows it. */
  macOf: (address: string) => string | undefined
}

export interface Follower {
  /** @returns the boot that the event is part of, as it is now */
  see(event: ServeEvent, at: number): Boot
  /** The last boot of each machine. */
  boots(): Boot[]
}

export function followBoots({ partOf, macOf }: FollowSettings): Follower {
  const last = new Map<string, Boot>()
  const macs = new Map<string, string>()

  function machineOf({ mac, address }: MachineClue): string {
    if (mac !== undefined && address !== undefined) remember(macs, address, mac)
    if (mac !== undefined) return mac
    if (address === undefined) return 'unknown'
    return macs.get(address) ?? macOf(address) ?? address
  }

  return {
    see(event, at) {
      const machine = machineOf(event)
      const part =
        event.kind === 'tftp' || event.kind === 'http' ? partOf(machine, event.file) : undefined
      const step = stepOf(event, part)
      let boot = last.get(machine)
      if (!boot || beginsAnew(event, part, boot)) {
        boot = { machine, started: at, step: 'dhcp', steps: {}, lastSign: at, bytes: 0 }
        remember(last, machine, boot)
      }
      if (event.address !== undefined) boot.address = event.address
      boot.lastSign = at
      if ((event.kind === 'tftp' || event.kind === 'http') && event.step === 'end') {
        boot.bytes += event.bytes
      }
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
    boots: () => [...last.values()],
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

/** So does a machine without firmware, that mounts its root again. */
function beginsAnew(event: ServeEvent, part: BootPart | undefined, boot: Boot): boolean {
  if (isBeforeRoot(event, part)) {
    return isAfter(boot.step, event.kind === 'dhcp' ? 'loader' : 'initrd')
  }
  return event.kind === 'nfs' && event.step === 'mount' && isAfter(boot.step, 'mount')
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
      return event.step === 'refuse' ? `${event.path}: ${event.reason ?? 'refused'}` : undefined
    case 'root':
      return undefined
  }
}

/** What a boot waits for that has given no sign for too long; one that was refused waits for nothing. */
export function stallOf(boot: Boot, now: number): Expectation | undefined {
  if (boot.steps[boot.step] === undefined) return undefined
  const expectation = expectations[boot.step]
  return now - boot.lastSign > expectation.patience * 1000 ? expectation : undefined
}
