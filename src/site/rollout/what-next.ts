/** What a person can do about a roll-out, in the words of all who show it. */
import { saysMachines } from '../../says-list.ts'
import type { Stand } from './stands.ts'
import type { RolloutStatus } from './status.ts'

/** What a person can do so that it goes on. @param names by machine */
export function whatNext(
  { group, state, machines, stuck, byHand }: RolloutStatus,
  names: ReadonlyMap<string, string>,
): string[] {
  const called = (all: readonly string[]) => saysMachines(all, names)
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
      // A person may have called the image good where it was bad.
      if (bad.length === 0) return [...stays, `netimage site resume ${group}`, back]
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
    default:
      return [
        ...stays,
        ...(byHand.length > 0 ? [`restart ${called(byHand)}: nobody else does`] : []),
        ...(bad.length > 0 ? [`look at ${called(bad)}: netimage site status MACHINE`] : []),
      ]
  }
}
