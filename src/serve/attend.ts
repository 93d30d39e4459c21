/**
 * Handles the events that the servers report. The server learns from every event. But it records
 * and shows only a limited number: forged packets could otherwise fill the disk and the screen.
 */
import type { Boot, Follower } from '../boots/follow.ts'
import type { BootRecord } from '../boots/record.ts'
import type { Report, ServeEvent } from '../protocols/event.ts'
import { limitCheap } from '../protocols/report-limit.ts'
import { learnGiven, type Identities } from './identity.ts'
import type { Sign } from '../site/life/attempts.ts'

export interface AttendSettings {
  follower: Follower
  identities: Pick<Identities, 'isAllowed' | 'learnAddress'>
  /** Called when a boot reaches a step, and when something of it fails. */
  onSign: (machine: string, sign: Sign, at: number) => void
  /** Called when a machine begins to boot. */
  onBoot: (machine: string) => void
  /** Called when a machine has done something that takes more than a forged address. */
  onCome: (boot: Boot, event: ServeEvent) => void
  record: Pick<BootRecord, 'add'>
  see: (boot: Boot, event: ServeEvent, at: number) => void
}

export function attend(settings: AttendSettings): Report {
  const { follower, identities, onSign, onBoot, onCome, record, see } = settings
  /** The boots for which `onBoot` was called. */
  const seen = new WeakSet<Boot>()
  /** The boots whose last step and trouble were told. */
  const told = new WeakMap<Boot, Pick<Boot, 'step' | 'trouble'>>()
  const mayTell = limitCheap(Date.now)

  function tellSigns(boot: Boot, at: number): void {
    const { machine, step, trouble, steps } = boot
    const before = told.get(boot)
    told.set(boot, { step, ...(trouble !== undefined && { trouble }) })
    if (step !== before?.step && steps[step] !== undefined)
      onSign(machine, { kind: 'step', step }, at)
    if (trouble !== undefined && trouble !== before?.trouble) {
      onSign(machine, { kind: 'trouble', trouble }, at)
    }
  }

  function learn(event: ServeEvent, at: number): Boot {
    learnGiven(identities, event)
    const boot = follower.see(event, at)
    const { machine } = boot
    if (!identities.isAllowed(machine)) return boot
    if (!seen.has(boot)) {
      seen.add(boot)
      onBoot(machine)
    }
    if (hasCome(event)) onCome(boot, event)
    tellSigns(boot, at)
    return boot
  }

  return (event, isTold = true) => {
    const at = Date.now()
    const boot = learn(event, at)
    if (!isTold || !mayTell(event)) return
    record.add(boot, event, at, identities.isAllowed(boot.machine))
    see(boot, event, at)
  }
}

/** Whether this takes more than one packet with a forged address. */
function hasCome(event: ServeEvent): boolean {
  const { kind, step } = event
  if (kind === 'nfs' && event.transport === 'udp') return false
  return kind !== 'dhcp' && step !== 'missing' && step !== 'refuse' && step !== 'fail'
}
