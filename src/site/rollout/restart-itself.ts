/**
 * Machines that restart themselves. A roll-out lets such a machine restart, and the machine hears of this when it
 * asks the next time. Until then nothing has happened: its deadline has not begun, and it has used no try.
 */
import type { Now } from '../life/life.ts'
import type { SiteWriter } from '../statements.ts'
import { tell, type RolloutTold } from './rollout.ts'
import { mayRestart } from './rollouts.ts'
import { isUntold, lastBooted } from './stand.ts'

interface SiteOfReadiness {
  of: SiteWriter['of']
  rollouts: Pick<SiteWriter['rollouts'], 'read' | 'requestOf' | 'setRequest' | 'setReadiness'>
}

/** The machine says whether it would restart itself now. If not, it gives the slot back that it waits with. */
export function noteReadiness(
  { of, rollouts }: SiteOfReadiness,
  machine: string,
  isReady: boolean,
  { uptime }: Now,
): RolloutTold[] {
  const attempt = lastBooted(of(machine))?.number ?? 0
  rollouts.setReadiness(machine, { isReady, uptime, attempt })
  const request = rollouts.requestOf(machine)
  if (isReady || !request || !isUntold(request)) return []
  rollouts.setRequest(machine, request.before)
  const { rollout, group } = request
  const says = 'has not let it restart itself, because its time window has ended'
  return [tell({ number: rollout, group }, says, machine)]
}

/** To be called before the machine is told that it may restart itself. @returns false if it may not now */
export function letRestart(site: SiteOfReadiness, machine: string, now: Now): boolean {
  const { rollouts } = site
  const read = rollouts.read()
  const request = read.requests.get(machine)
  if (!request || !mayRestart(site, read, machine, now)) return false
  if (!isUntold(request)) return true
  const { before: _, ...last } = request
  rollouts.setRequest(machine, { ...last, uptime: now.uptime, command: 'ended' })
  return true
}
