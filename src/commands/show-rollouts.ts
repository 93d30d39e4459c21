/** The text of the status of groups and their roll-outs. */
import { shownDigits } from '../site/images/choose-image.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import type { Stand } from '../site/rollout/stand.ts'
import { saysStands, type RolloutStatus } from '../site/rollout/status.ts'
import { saysList } from './says-list.ts'

type Names = ReadonlyMap<string, string>

/** What a person wants to know first. @param names by machine */
export function summaryOfGroup(status: RolloutStatus, rollout: Rollout, names: Names): string[] {
  const { group, state, reason, image = '' } = status
  const why = reason === undefined ? '' : `: ${reason}`
  return [
    `group ${group}: roll-out ${rollout.number} of image ${image.slice(0, shownDigits)} is ${state}${why}`,
    `  ${saysStands(status)}`,
    ...whatNext(status, rollout, names).map((text) => `  next: ${text}`),
  ]
}

/** Also each machine. */
export function describeGroup(status: RolloutStatus, rollout: Rollout, names: Names): string[] {
  const { machines = {} } = status
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

/** What a person can do so that it goes on. */
function whatNext(
  { group, state, machines = {}, stuck = [] }: RolloutStatus,
  rollout: Rollout,
  names: Names,
) {
  const called = (all: readonly string[]) => saysList(all.map((each) => names.get(each) ?? each))
  const those = (...stands: Stand[]) =>
    Object.entries(machines).flatMap(([machine, stand]) => (stands.includes(stand) ? machine : []))
  const bad = those('bad', 'lost')
  const back = `or go back everywhere: netimage site rollback ${group}`
  const stays =
    stuck.length > 0
      ? [`restart ${called(stuck)}: nobody else does, and the image is bad there`]
      : []
  switch (state) {
    case 'halted':
      return [
        ...stays,
        `see why ${called(bad)} failed (netimage site status MACHINE), and apply a better image`,
        `or hold those machines (netimage site hold MACHINE), then netimage site resume ${group}`,
        back,
      ]
    case 'paused':
      return [`netimage site resume ${group}`, back]
    case 'aborted':
      return ['netimage site apply begins another one']
    default: {
      const byHand = those('next').filter((each) => !rollout.machines[each]?.restart?.reboot)
      return [
        ...stays,
        ...(byHand.length > 0 ? [`restart ${called(byHand)}: nobody else does`] : []),
        ...(bad.length > 0 ? [`look at ${called(bad)}: netimage site status MACHINE`] : []),
      ]
    }
  }
}
