/** The text of the status of groups and their roll-outs. */
import { shownDigits } from '../site/images/choose-image.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { saysStands, type RolloutStatus } from '../site/rollout/status.ts'
import { whatNext } from '../site/rollout/what-next.ts'

type Names = ReadonlyMap<string, string>

/** What a person wants to know first. @param names by machine */
export function summaryOfGroup(status: RolloutStatus, rollout: Rollout, names: Names): string[] {
  const { group, state, reason, image } = status
  const why = reason === undefined ? '' : `: ${reason}`
  return [
    `group ${group}: roll-out ${rollout.number} of image ${image.slice(0, shownDigits)} is ${state}${why}`,
    `  ${saysStands(status)}`,
    ...whatNext(status, names).map((text) => `  next: ${text}`),
  ]
}

/** Also each machine. */
export function describeGroup(status: RolloutStatus, rollout: Rollout, names: Names): string[] {
  const { machines } = status
  const waves = rollout.waves.flatMap((wave, at) => [
    `  wave ${at + 1}${wave.pause ? ', then a pause' : ''}`,
    ...wave.machines.map((machine) => {
      const name = names.get(machine)
      const called = name === undefined ? machine : `${name} (${machine})`
      return `    ${called}  ${machines[machine] ?? 'pending'}`
    }),
  ])
  return [...summaryOfGroup(status, rollout, names), ...waves]
}
