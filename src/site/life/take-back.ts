/** What a machine was given is taken back before it has tried it. */
import { leaveTrial } from './choose.ts'
import { withGeneration } from './kept.ts'
import { generationOf, hasBooted, type Attempt, type Generation, type Life } from './life.ts'
import { leaveBad } from './verdicts.ts'

/** What decided what a machine boots, before it was given something else. */
export interface Before {
  current?: number
  isChosen: boolean
}

export function beforeOf({ current, isChosen }: Life): Before {
  return { isChosen, ...(current !== undefined && { current }) }
}

/**
 * The attempts in which the machine has tried to boot the generation. A try that counts for nothing is none.
 *
 * @param after only attempts after this one
 */
export function triesOf(life: Life, number: number, after = 0): Attempt[] {
  return life.attempts.filter(
    (each) =>
      each.generation === number &&
      each.number > after &&
      hasBooted(each) &&
      each.outcome !== 'void',
  )
}

export function hasTried(...of: Parameters<typeof triesOf>): boolean {
  return triesOf(...of).length > 0
}

/**
 * The machine boots what it would have booted without the generation. If it was to boot the generation
 * already, it boots its last good one. If there is nothing else, it has nothing to boot.
 *
 * @param number if the machine does not boot this next, somebody chose something else, and nothing changes
 */
export function takeBack(life: Life, number: number, before: Before): Life {
  if (life.current !== number) return life
  const { current: _, ...left } = leaveTrial(life)
  const target = [before.current, life.lastGood]
    .filter((each) => each !== number)
    .flatMap((each) => generationOf(life, each) ?? [])[0]
  const chosen = { ...left, isChosen: before.isChosen }
  if (!target) return chosen
  return leaveBad({ ...withGeneration(chosen, onTrialAgain(target)), current: target.number })
}

/** A trial that goes on was not left. */
function onTrialAgain(generation: Generation): Generation {
  const { reason: _, ...onTrial } = generation
  return generation.verdict === 'trial' ? onTrial : generation
}
