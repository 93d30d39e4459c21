/** When a roll-out halts, and what lets it go on. */
import { saysMachines } from '../../says-list.ts'
import type { Rollout, RolloutTold } from './rollout.ts'
import type { Stand } from './stands.ts'

/**
 * How many bad machines halt it: one, until the image is good on a machine of an earlier wave. The machines of
 * the first waves may all be held.
 */
export function limitOf(
  { waves, wave, halt }: Pick<Rollout, 'waves' | 'wave' | 'halt'>,
  stands: ReadonlyMap<string, Stand>,
): number {
  const earlier = waves.slice(0, wave).flatMap(({ machines }) => machines)
  return earlier.some((machine) => stands.get(machine) === 'good') ? halt : 1
}

export function badIn(stands: ReadonlyMap<string, Stand>): string[] {
  return [...stands].flatMap(([machine, stand]) => (stand === 'bad' ? [machine] : []))
}

export function running(rollout: Rollout): Rollout {
  const { reason: _, haltedBy: _by, beforeHalt: _before, ...rest } = rollout
  return { ...rest, state: 'running' }
}

export function halted(rollout: Rollout, haltedBy: readonly string[]): Rollout {
  const { state, reason } = rollout
  const halted: Rollout = { ...running(rollout), state: 'halted', haltedBy }
  if (state !== 'paused' && state !== 'done') return halted
  return { ...halted, beforeHalt: { state, ...(reason !== undefined && { reason }) } }
}

/** As it was before the halt: a person may have paused it. */
export function unhalted(rollout: Rollout): Rollout {
  return { ...running(rollout), ...rollout.beforeHalt }
}

type Names = ReadonlyMap<string, string>

/** Why it does not run, as the end of a sentence. @param names by machine */
export function saysReason(
  { state, reason, haltedBy }: Pick<Rollout, 'state' | 'reason' | 'haltedBy'>,
  names: Names,
): string | undefined {
  return state === 'halted' && haltedBy ? saysBad(haltedBy, names) : reason
}

/** The whole sentence, with the names that the machines have now. */
export function named({ bad, ...told }: RolloutTold, names: Names): RolloutTold {
  return bad ? { ...told, says: `${told.says}: ${saysBad(bad, names)}` } : told
}

/** As in `pi1, pi2 are bad`. */
export function saysBad(bad: readonly string[], names: Names): string {
  return `${saysMachines(bad, names)} ${bad.length === 1 ? 'is' : 'are'} bad`
}
