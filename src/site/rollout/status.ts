/** What a person wants to know of a roll-out. */
import type { Life } from '../life/life.ts'
import { saysReason } from './halt.ts'
import type { Rollout } from './rollout.ts'
import { seenIn } from './rollouts.ts'
import { isByHand, isStuck, standOf } from './stand.ts'
import { countStands, saysCounts, type Stand, type StandCounts } from './stands.ts'
import type { SiteRollouts } from './statements.ts'

export interface RolloutStatus {
  group: string
  rollout: number
  state: Rollout['state']
  reason?: string
  /** The wave that runs, from 1, and how many there are. */
  wave: number
  waves: number
  image: string
  /** How many machines stand in which way. */
  counts: StandCounts
  machines: Readonly<Record<string, Stand>>
  /** The machines that stay in the image that is bad, and that no command restarts any more. */
  stuck: readonly string[]
  /** The machines that boot the image once a person restarts them, because nobody else does. */
  byHand: readonly string[]
}

/**
 * @param uptime the time in which servers ran, until now. Milliseconds.
 * @param names by machine
 */
export function rolloutStatus(
  lifeOf: (machine: string) => Life,
  rollouts: SiteRollouts,
  rollout: Rollout,
  uptime: number,
  names: ReadonlyMap<string, string>,
): RolloutStatus {
  const all = [...seenIn({ of: lifeOf }, rollouts, rollout, { at: 0, uptime })]
  const stands = new Map(all.map(([machine, each]) => [machine, standOf(each)]))
  const { group, number, state, wave, waves, candidate } = rollout
  const reason = saysReason(rollout, names)
  return {
    ...{ group, rollout: number, state, ...(reason !== undefined && { reason }) },
    ...{ wave: wave + 1, waves: waves.length, image: candidate.image },
    counts: countStands(stands.values()),
    machines: Object.fromEntries(stands),
    byHand: all.flatMap(([machine, each]) => (isByHand(each) ? [machine] : [])),
    stuck: all.flatMap(([machine, each]) => (isStuck(each) ? [machine] : [])),
  }
}

/** The groups that have machines, as they were applied last. */
export function groupsIn({ groups }: SiteRollouts): Set<string> {
  return new Set(groups.values())
}

export interface GroupStatus {
  shown: RolloutStatus
  rollout: Rollout
}

/** The newest roll-out of each group, in the order of their names. */
export function groupStatuses(
  lifeOf: (machine: string) => Life,
  rollouts: SiteRollouts,
  uptime: number,
  names: ReadonlyMap<string, string>,
): GroupStatus[] {
  return [...groupsIn(rollouts)].toSorted().flatMap((group) => {
    const rollout = rollouts.newest.find((each) => each.group === group)
    return rollout
      ? [{ rollout, shown: rolloutStatus(lifeOf, rollouts, rollout, uptime, names) }]
      : []
  })
}

/** `wave 2 of 3: 3 good, 1 booting, 2 waiting` */
export function saysStands({ wave, waves, counts }: RolloutStatus): string {
  return `wave ${wave} of ${waves}: ${saysCounts(counts)}`
}
