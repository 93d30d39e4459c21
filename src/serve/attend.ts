/**
 * What comes of the events that the servers report. All of them are learned from; only so many are
 * told, since whoever makes up machines could fill disks and screens with them.
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
  identities: Pick<Identities, 'isAllowed' | 'hasAddress'>
  machines: Pick<Machines, 'boots'>
  /** What a boot file is to a machine. */
  partOf: (machine: string, file: string) => BootPart | undefined
  /** Told if a machine begins to boot. */
  onBoot: (machine: string) => void
  /** Told if a machine has done what nobody can do with a made-up address. */
  onCome: (machine: string) => void
  record: Pick<BootRecord, 'add'>
  see: (boot: Boot, event: ServeEvent, at: number) => void
  onError: (error: unknown) => void
}

export interface Attention {
  /** To be told of each event, before anybody may drop it. */
  learn: Report
  /** To be told of an event that was learned from; a flood of them is cut short. */
  tell: Report
}

export function attend(settings: AttendSettings): Attention {
  const { follower, identities, machines, partOf, onBoot, onCome, record, see, onError } = settings
  /** When the boot began that each machine was seen in, and that it begins its root anew for. */
  const [seen, begun] = [new Map<string, number>(), new Map<string, number>()]
  const learned = new WeakMap<ServeEvent, { boot: Boot; at: number }>()

  function learn(event: ServeEvent): void {
    const at = Date.now()
    if (event.kind === 'dhcp' && !event.proxy && event.step === 'acknowledge') {
      const { mac, address } = event
      if (mac !== undefined && address !== undefined) identities.hasAddress(mac, address)
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
    // Of others nobody knows: they may run since before this server did, or have mounted already.
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

/** Whether a machine has done what takes more than a packet with a made-up address. */
function hasCome({ kind, step }: ServeEvent): boolean {
  return kind !== 'dhcp' && step !== 'missing' && step !== 'refuse' && step !== 'fail'
}
