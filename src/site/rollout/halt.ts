/** When a roll-out halts, and what lets it go on. */
import type { Rollout } from './rollout.ts'
import type { Stand } from './stand.ts'

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
  const { reason: _, haltedBy: _by, ...rest } = rollout
  return { ...rest, state: 'running' }
}

/** As in `pi1 and pi2 are bad`. */
export function saysBad(bad: readonly string[]): string {
  return `${listed(bad)} ${bad.length === 1 ? 'is' : 'are'} bad`
}

const mostListed = 5

function listed(names: readonly string[]): string {
  const shown = names.slice(0, mostListed)
  const more = names.length - shown.length
  if (more > 0) return `${shown.join(', ')} and ${more} more`
  return shown.length > 1 ? `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}` : shown.join()
}
