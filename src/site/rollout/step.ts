/**
 * A roll-out goes on: looks at the lives of its machines, and does what is to be done now. What a step has
 * done is in the roll-out and the lives that it returns, so that the next step goes on from there. If they
 * are lost, the next step does the same again.
 */
import type { Life, Now } from '../life/life.ts'
import { draftOf, isFull, type Draft, type Machines } from './draft.ts'
import { assignBegun, noteBad, takeBackAll, takeBackOne } from './give.ts'
import { requestRestarts } from './request-restarts.ts'
import type { RestartRequest, Rollout, RolloutTold } from './rollout.ts'
import { endWave, haltOrGoOn } from './waves.ts'

export interface Stepped {
  rollout: Rollout
  /** The lives that have changed. */
  lives: readonly Life[]
  /** The machines that are to be restarted now. */
  requests: ReadonlyMap<string, RestartRequest>
  told: readonly RolloutTold[]
  /** Whether there is more to do now. */
  isUnfinished: boolean
}

export function step(rollout: Rollout, machines: Machines, now: Now): Stepped {
  const draft = draftOf(rollout, machines, now)
  noteBad(draft)
  for (const machine of draft.members.keys()) {
    if (machines.leftOut(machine)) takeBackOne(draft, machine)
  }
  haltOrGoOn(draft)
  if (isStopped(draft.rollout)) takeBackAll(draft)
  else if (draft.rollout.state !== 'paused') {
    assignBegun(draft)
    endWave(draft)
  }
  requestRestarts(draft)
  return finished(draft, rollout)
}

/** The machines that have not tried the image boot what they would have booted. */
export function takenBack(rollout: Rollout, machines: Machines, now: Now): Stepped {
  const draft = draftOf(rollout, machines, now)
  for (const machine of draft.members.keys()) takeBackOne(draft, machine)
  return finished(draft, rollout)
}

function finished(draft: Draft, before: Rollout): Stepped {
  const { rollout, members, lives, requests, told } = draft
  const isSame = [...members].every(([machine, member]) => before.machines[machine] === member)
  return {
    rollout: isSame ? rollout : { ...rollout, machines: Object.fromEntries(members) },
    ...{ lives: [...lives.values()], requests, told },
    isUnfinished: rollout.wave !== before.wave || isFull(draft),
  }
}

function isStopped({ state }: Rollout): boolean {
  return state === 'halted' || state === 'aborted'
}
