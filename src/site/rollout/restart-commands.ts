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
import { tell, type RestartRequest, type RolloutTold } from './rollout.ts'
import { isStillWanted } from './rollouts.ts'
import { isUntold, lastBooted } from './stand.ts'

interface SiteOfRequests {
  of: (machine: string) => Life
  rollouts: Pick<SiteWriter['rollouts'], 'read' | 'requestOf' | 'setRequest'>
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
export function beginCommand(site: SiteOfRequests, machine: string, now: Now): BegunCommand {
  const request = site.rollouts.requestOf(machine)
  const isToRun = request?.command === 'due' || request?.command === 'begun'
  if (!isToRun || isUntold(request)) return { mayRun: false, told: [] }
  const { before, ...last } = request
  const { uptime } = now
  if (!isUnanswered(site, machine, request)) {
    site.rollouts.setRequest(machine, { ...last, uptime, command: 'ended' })
    return notRun(request, machine, 'it has started again meanwhile')
  }
  const isWanted = isStillWanted(site, machine, request, now)
  site.rollouts.setRequest(machine, isWanted ? { ...request, uptime, command: 'begun' } : before)
  return isWanted
    ? { mayRun: true, told: [] }
    : notRun(request, machine, 'the roll-out would not ask this any more')
}

function notRun(request: RestartRequest, machine: string, why: string): BegunCommand {
  return { mayRun: false, told: [tellOf(request, machine, `${saysNot(request)}, because ${why}`)] }
}

function saysNot({ kind }: Pick<RestartRequest, 'kind'>): string {
  return kind === 'reboot' ? 'has not asked it to restart' : 'has not switched its power'
}

function tellOf({ rollout, group }: RestartRequest, machine: string, says: string): RolloutTold {
  return tell({ number: rollout, group }, says, machine)
}

export function endCommand({ rollouts }: SiteOfRequests, machine: string): void {
  const request = rollouts.requestOf(machine)
  if (request?.command !== 'begun') return
  const { before: _, ...last } = request
  rollouts.setRequest(machine, { ...last, command: 'ended' })
}

/**
 * To be called when a server starts: no command of an earlier one runs any more.
 *
 * @param requests when each machine was last asked to restart
 */
export function recoverCommands(
  site: SiteOfRequests,
  requests: ReadonlyMap<string, RestartRequest>,
): RolloutTold[] {
  return [...requests].flatMap(([machine, request]) => {
    const says = recover(site, machine, request)
    if (says === undefined || !isUnanswered(site, machine, request)) return []
    return [tellOf(request, machine, says)]
  })
}

function recover(
  { rollouts }: SiteOfRequests,
  machine: string,
  { before, ...request }: RestartRequest,
): string | undefined {
  // The machine comes all the same, and is told then.
  if (isUntold(request)) return undefined
  switch (request.command) {
    case 'due':
      rollouts.setRequest(machine, before)
      return `${saysNot(request)}, because the server ended before`
    case 'begun':
      rollouts.setRequest(machine, { ...request, command: 'cut off', times: request.times - 1 })
      return 'does not know whether its command has reached the machine, because the server ended while it ran: waits until the deadline whether the machine starts again'
    case 'cut off':
    case 'ended':
      return undefined
  }
}

function isUnanswered(
  { of }: SiteOfRequests,
  machine: string,
  { attempt }: RestartRequest,
): boolean {
  try {
    return (lastBooted(of(machine))?.number ?? 0) <= attempt
  } catch (error) {
    if (error instanceof BrokenRow) return false
    throw error
  }
}
