/**
 * Handles the events that the servers report. The server learns from every event. But it records
 * and shows only a limited number: forged packets could otherwise fill the disk and the screen.
 */
import { isBeforeRoot, type Boot, type Follower } from '../boots/follow.ts'
import type { BootPart } from '../boots/boot-parts.ts'
import type { BootRecord } from '../boots/record.ts'
import type { Report, ServeEvent } from '../protocols/event.ts'
import { limitCheap } from '../protocols/report-limit.ts'
import { remember } from '../remember.ts'
import type { Identities } from './identity.ts'
import type { Machines } from './machines.ts'

export interface AttendSettings {
  follower: Follower
  identities: Pick<Identities, 'isAllowed' | 'learnAddress'>
  machines: Pick<Machines, 'boots'>
  /** The part of a boot file in the boot of a machine. */
  partOf: (machine: string, file: string) => BootPart | undefined
  /** Called when a machine begins to boot. */
  onBoot: (machine: string) => void
  /** Called when a machine has done something that takes more than a forged address. */
  onCome: (machine: string) => void
  record: Pick<BootRecord, 'add'>
  see: (boot: Boot, event: ServeEvent, at: number) => void
  onError: (error: unknown) => void
}

export interface Attention {
  /** Learns from an event. To be called for each event, before events are dropped. */
  learn: Report
  /** Records and shows an event that `learn` has seen. Drops events if there are too many. */
  tell: Report
}

export function attend(settings: AttendSettings): Attention {
  const { follower, identities, machines, partOf, onBoot, onCome, record, see, onError } = settings
  /** By machine, when the boot began for which `onBoot` and `machines.boots` were called last. */
  const [seen, begun] = [new Map<string, number>(), new Map<string, number>()]
  const learned = new WeakMap<ServeEvent, { boot: Boot; at: number }>()

  function learn(event: ServeEvent): void {
    const at = Date.now()
    if (event.kind === 'dhcp' && !event.proxy && event.step === 'acknowledge') {
      const { mac, address } = event
      if (mac !== undefined && address !== undefined) identities.learnAddress(mac, address)
    }
    const boot = follower.see(event, at)
    learned.set(event, { boot, at })
    const { machine, started } = boot
    if (!identities.isAllowed(machine)) return
    if (seen.get(machine) !== started) {
      remember(seen, machine, started)
      onBoot(machine)
    }
    if (hasCome(event)) onCome(machine)
    // Other events do not prove a new boot: the machine may run since before this server started,
    // or have mounted its root already.
    const part = 'file' in event ? partOf(machine, event.file) : undefined
    if (begun.get(machine) !== started && isBeforeRoot(event, part)) {
      remember(begun, machine, started)
      machines.boots(machine).catch(onError)
    }
  }

  const tell = limitCheap((event) => {
    const { boot, at } = learned.get(event) ?? {}
    if (!boot || at === undefined) return
    record.add(boot, event, at, identities.isAllowed(boot.machine))
    see(boot, event, at)
  }, Date.now)

  return { learn, tell }
}

/** Whether this takes more than one packet with a forged address. */
function hasCome(event: ServeEvent): boolean {
  const { kind, step } = event
  if (kind === 'nfs' && event.transport === 'udp') return false
  return kind !== 'dhcp' && step !== 'missing' && step !== 'refuse' && step !== 'fail'
}
