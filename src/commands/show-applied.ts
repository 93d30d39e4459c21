/** Says what happens after a plan was applied. */
import { plural } from '../progress.ts'
import { saysDeclaration } from '../site/declarations.ts'
import { isServed } from '../serve/state.ts'
import type { Plan } from '../site/plan/planned.ts'
import { isToChange } from '../site/plan/planned-rollout.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { saysList } from '../says-list.ts'

export function showApplied(
  plan: Plan,
  begun: readonly Rollout[],
  state: string,
): { text: string; json: object } {
  const { groups, names, ends, moves, declarations } = plan
  const isNothing = [begun, names, ends, moves, declarations].every((list) => list.length === 0)
  const served = isServed(state)
  const lines = [
    ...begun.flatMap((rollout) => saysBegun(plan, rollout)),
    ...(names.length > 0 ? [`gave ${plural(names.length, 'machine')} a name`] : []),
    ...declarations.map(({ machine, name = machine, declared }) => {
      return `${name} has ${saysDeclaration(declared)}`
    }),
    ...ends.map(({ group, rollout }) => `ended roll-out ${rollout} of ${group}`),
    ...(begun.length > 0 && served === false
      ? ['no server runs with this site: the roll-outs go on when netimage serve runs']
      : []),
    ...(isNothing ? groups.flatMap(saysOpen) : []),
  ]
  return {
    text: [...(isNothing ? ['nothing to apply'] : []), ...lines].join('\n'),
    json: {
      plan: plan.digest,
      begun: begun.map(({ group, number }) => ({ group, rollout: number })),
      ...{ names, ends, moves, declarations },
      ...(served !== undefined && { isServed: served }),
    },
  }
}

function saysBegun({ groups }: Plan, { number, group, waves, machines }: Rollout): string[] {
  const planned = groups.find(({ name }) => name === group)
  const changing = planned?.machines.filter(isToChange) ?? []
  const called = (all: readonly { machine: string; name?: string }[]) =>
    saysList(all.map(({ machine, name = machine }) => name))
  const first =
    planned?.machines.filter(({ machine }) => waves[0]?.machines.includes(machine)) ?? []
  const byHand = changing.filter(({ reboot }) => reboot === undefined)
  const all = plural(Object.keys(machines).length, 'machine')
  return [
    `roll-out ${number} of ${group} has begun: ${all} in ${plural(waves.length, 'wave')}, first ${called(first)}`,
    ...(byHand.length > 0
      ? [
          `  nobody restarts ${called(byHand)}: when the wave of a machine has begun, restart it yourself`,
        ]
      : []),
  ]
}

/** Why something is left although there is nothing to apply. */
function saysOpen({ name, rollout, machines }: Plan['groups'][number]): string[] {
  if (!rollout || !machines.some(isToChange)) return []
  const { number, state, reason } = rollout
  const why = reason === undefined ? '' : `: ${reason}`
  return [`roll-out ${number} of ${name} is ${state}${why}; see netimage site status ${name}`]
}
