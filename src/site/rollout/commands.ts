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

/**
 * To be called before the command runs. It may have waited for long, so the request is taken back if the
 * roll-out would not make it any more: the machine is held, for example, or the roll-out is paused.
 *
 * @returns false if it must not run: also if the machine has started again meanwhile, or its row is broken
 */
export function beginCommand(site: AskedMachines, machine: string, now: Now): boolean {
  const asked = site.rollouts.asked(machine)
  if (asked?.command !== 'due') return false
  const { before, ...begun } = asked
  if (!isUnanswered(site, machine, asked)) {
    site.rollouts.ask(machine, { ...begun, uptime: now.uptime, command: 'ended' })
    return false
  }
  const mayRun = isStillAsked(site, machine, asked, now)
  site.rollouts.ask(machine, mayRun ? { ...begun, uptime: now.uptime, command: 'begun' } : before)
  return mayRun
}

export function endCommand({ rollouts }: AskedMachines, machine: string): void {
  const asked = rollouts.asked(machine)
  if (asked?.command === 'begun') rollouts.ask(machine, { ...asked, command: 'ended' })
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
    return [tell({ number: asked.rollout, group: asked.group }, says, machine)]
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
      return 'has not asked it to restart, because the server ended before'
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
