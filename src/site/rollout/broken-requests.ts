/**
 * If the row is broken that says when a machine was asked to restart, the machine may go down now. It is then as
 * after a command that was cut off: the machine has its slot until the deadline.
 */
import type { Life, Now } from '../life/life.ts'
import { tell, type RestartRequest, type RolloutTold } from './rollout.ts'
import { lastBooted } from './stand.ts'
import type { RolloutWriter, SiteRollouts } from './statements.ts'

/**
 * @param lifeOf undefined: its rows are broken as well, so roll-outs leave the machine out
 * @returns what is read of the site after that
 */
export function replaceBrokenRequests(
  read: SiteRollouts,
  lifeOf: (machine: string) => Life | undefined,
  setRequest: RolloutWriter['setRequest'],
  { uptime }: Now,
): { read: SiteRollouts; told: RolloutTold[] } {
  const requests = new Map(read.requests)
  const told: RolloutTold[] = []
  const left = read.brokenRequests.filter(({ machine }) => {
    const rollout = read.newest.find(
      ({ group, machines }) => read.groups.get(machine) === group && machines[machine],
    )
    const life = rollout && lifeOf(machine)
    if (!life) return true
    const { number, group } = rollout
    const request: RestartRequest = {
      ...{ rollout: number, group, kind: 'reboot', command: 'cut off', uptime },
      ...{ attempt: lastBooted(life)?.number ?? 0, times: 0 },
    }
    setRequest(machine, request)
    requests.set(machine, request)
    const says =
      'does not know whether it was asked to restart, because the row of this is broken: waits until the deadline whether the machine starts again'
    told.push(tell(rollout, says, machine))
    return false
  })
  return { read: { ...read, requests, brokenRequests: left }, told }
}
