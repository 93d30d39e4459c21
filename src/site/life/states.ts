/**
 * The state of a machine is all that it wrote. Before the first attempt of a trial, the server takes a
 * snapshot of the state, so that the machine can go back to a generation with the state from then.
 */
import { keptOf } from './kept.ts'
import {
  generationOf,
  hasBooted,
  lastAttempt,
  type Changed,
  type Generation,
  type Life,
  type StateBack,
} from './life.ts'

/**
 * The generation that the machine tried when it last left this one. The state from before its first
 * attempt is the state in which the machine left this generation.
 */
export function triedAfter(life: Life, number: number): Generation | undefined {
  const onlyAsked = new Set(
    life.attempts.filter((each) => !hasBooted(each)).map((each) => each.number),
  )
  return life.generations.findLast(
    ({ begun }) => begun?.after === number && !onlyAsked.has(begun.attempt),
  )
}

/** The trial of the last attempt, and the first attempt to boot it. */
export function trialOf(life: Life): { generation: number; attempt: number } | undefined {
  const generation = generationOf(life, lastAttempt(life)?.generation)
  if (generation?.verdict !== 'trial' || !generation.begun) return undefined
  return { generation: generation.number, attempt: generation.begun.attempt }
}

/**
 * Which snapshots stay: for each generation that the machine keeps, the newest of the states in which
 * it left the generation; and the one from before the generation that it boots.
 *
 * @param taken the numbers of the generations from before which there are snapshots
 */
export function keptStates(life: Life, taken: readonly number[]): Set<number> {
  const wasTaken = new Set(taken)
  const left = keptOf(life).map(({ number }) =>
    life.generations.findLast((each) => wasTaken.has(each.number) && each.begun?.after === number),
  )
  const own = [life.current, lastAttempt(life)?.generation]
  const kept = new Set([...own, ...left.map((each) => each?.number)])
  return new Set(taken.filter((number) => kept.has(number)))
}

/** Lets the machine go back to a state at its next start, if it then boots the generation `to`. */
export function wishState(
  life: Life,
  { to, before }: Omit<StateBack, 'after'>,
): Life & { stateBack: StateBack } {
  return { ...life, stateBack: { to, before, after: lastAttempt(life)?.number ?? 0 } }
}

/** What a person wished is to be done before the layer is opened for the last attempt. */
export function dueState({ stateBack, ...life }: Life): StateBack | undefined {
  const attempt = life.attempts.at(-1)
  if (!stateBack || !attempt || attempt.number <= stateBack.after) return undefined
  return attempt.generation === stateBack.to ? stateBack : undefined
}

export function withoutWish(life: Life): Life {
  if (!life.stateBack) return life
  const { stateBack: _, ...rest } = life
  return rest
}

/** The state was put back. The person may have wished something else meanwhile. */
export function isBack(life: Life, done: StateBack, reason: string): Changed {
  const { machine, stateBack } = life
  const isSame = stateBack?.before === done.before && stateBack.after === done.after
  const told = { machine, kind: 'state back', generation: done.to, reason } as const
  return { life: isSame ? withoutWish(life) : life, told: [told] }
}
