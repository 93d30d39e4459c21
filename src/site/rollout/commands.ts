/**
 * What becomes of the commands with which machines are asked to restart. A server can be killed at any time,
 * so what a command has come to is written before and after it runs.
 *
 * - A command that has not begun has done nothing: if its roll-out would not ask for it any more, or the server
 *   ends, the request is taken back, and the next step decides anew.
 * - A command that was cut off may have reached the machine, which then goes down or boots already. A second
 *   one at once could cut this boot, and make the image bad that it tries. So the machine has its slot until
 *   the deadline, as one that was asked. If it has not started again by then, it counts as not asked.
 */
import type { Life, Now } from '../life/life.ts'
import { BrokenRow } from '../rows.ts'
import type { SiteWriter } from '../statements.ts'
import { tell, type Asked, type RolloutTold } from './rollout.ts'
import { isStillAsked } from './rollouts.ts'
import { lastBooted } from './stand.ts'

interface AskedMachines {
  of: (machine: string) => Life
  rollouts: Pick<SiteWriter['rollouts'], 'read' | 'asked' | 'ask'>
}

export interface BegunCommand {
  mayRun: boolean
  /** Why it must not run, if nobody knows it otherwise. */
  told: readonly RolloutTold[]
}

/**
 * To be called before the command runs, also again if it could not be written that it has begun. It may have
 * waited for long, so the request is taken back if the roll-out would not make it any more: the machine is
 * held, for example, or the roll-out is paused.
 */
export function beginCommand(site: AskedMachines, machine: string, now: Now): BegunCommand {
  const asked = site.rollouts.asked(machine)
  if (asked?.command !== 'due' && asked?.command !== 'begun') return { mayRun: false, told: [] }
  const { before, ...request } = asked
  const { uptime } = now
  if (!isUnanswered(site, machine, asked)) {
    site.rollouts.ask(machine, { ...request, uptime, command: 'ended' })
    return notRun(asked, machine, 'it has started again meanwhile')
  }
  const isWanted = isStillAsked(site, machine, asked, now)
  site.rollouts.ask(machine, isWanted ? { ...asked, uptime, command: 'begun' } : before)
  return isWanted
    ? { mayRun: true, told: [] }
    : notRun(asked, machine, 'the roll-out would not ask this any more')
}

function notRun(asked: Asked, machine: string, why: string): BegunCommand {
  return { mayRun: false, told: [tellOf(asked, machine, `${saysNot(asked)}, because ${why}`)] }
}

function saysNot({ kind }: Pick<Asked, 'kind'>): string {
  return kind === 'reboot' ? 'has not asked it to restart' : 'has not switched its power'
}

function tellOf({ rollout, group }: Asked, machine: string, says: string): RolloutTold {
  return tell({ number: rollout, group }, says, machine)
}

export function endCommand({ rollouts }: AskedMachines, machine: string): void {
  const asked = rollouts.asked(machine)
  if (asked?.command !== 'begun') return
  const { before: _, ...request } = asked
  rollouts.ask(machine, { ...request, command: 'ended' })
}

/**
 * To be called when a server starts: no command of an earlier one runs any more.
 *
 * @param asked when each machine was last asked to restart
 */
export function recoverCommands(
  site: AskedMachines,
  asked: ReadonlyMap<string, Asked>,
): RolloutTold[] {
  return [...asked].flatMap(([machine, asked]) => {
    const says = recover(site, machine, asked)
    if (says === undefined || !isUnanswered(site, machine, asked)) return []
    return [tellOf(asked, machine, says)]
  })
}

function recover(
  { rollouts }: AskedMachines,
  machine: string,
  { before, ...asked }: Asked,
): string | undefined {
  switch (asked.command) {
    case 'due':
      rollouts.ask(machine, before)
      return `${saysNot(asked)}, because the server ended before`
    case 'begun':
      rollouts.ask(machine, { ...asked, command: 'cut off', times: asked.times - 1 })
      return 'does not know whether its command has reached the machine, because the server ended while it ran: waits until the deadline whether the machine starts again'
    case 'cut off':
    case 'ended':
      return undefined
  }
}

function isUnanswered({ of }: AskedMachines, machine: string, { attempt }: Asked): boolean {
  try {
    return (lastBooted(of(machine))?.number ?? 0) <= attempt
  } catch (error) {
    if (error instanceof BrokenRow) return false
    throw error
  }
}
