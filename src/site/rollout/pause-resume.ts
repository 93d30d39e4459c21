/** A person pauses a roll-out, or lets it go on. To abort it: see rollouts.ts. */
import type { Rollout } from './rollout.ts'
import { badIn, limitOf, running } from './halt.ts'
import type { Stand } from './stands.ts'

/** Why it cannot be done, as the end of a sentence that begins with the roll-out. */
export interface NotNow {
  why: string
  /** The machines that are the reason for it. */
  bad?: readonly string[]
}

/** No further machine is given the image or asked to restart. Machines that boot go on. */
export function pause(rollout: Rollout): Rollout | NotNow {
  if (rollout.state !== 'running') return isNot(rollout)
  return { ...rollout, state: 'paused', reason: 'a person paused it' }
}

/**
 * A roll-out that has halted goes on only if too few machines are bad now to halt it again: a person has
 * held them, or has said that the image is good there.
 *
 * @param stands of all machines of the roll-out
 */
export function resume(rollout: Rollout, stands: ReadonlyMap<string, Stand>): Rollout | NotNow {
  if (rollout.state === 'paused') return running(rollout)
  if (rollout.state !== 'halted') return isNot(rollout)
  const bad = badIn(stands)
  return bad.length < limitOf(rollout, stands) ? running(rollout) : { why: 'would halt again', bad }
}

export function isNot({ state }: Rollout): NotNow {
  return { why: `is ${state}` }
}
