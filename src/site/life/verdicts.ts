/** The verdicts of generations, and what the machine boots next because of them. */
import { withGeneration } from './kept.ts'
import {
  generationOf,
  type Cause,
  type Changed,
  type Generation,
  type Life,
  type Told,
  type Why,
} from './life.ts'

/** Decides a trial. */
export function judgeGood(life: Life, generation: Generation, reason: string): Changed {
  const { life: judged, told } = withVerdict(life, generation, { verdict: 'good', reason })
  // A person who went back meanwhile has chosen another last good generation.
  const isOnTrial = life.lastGood === undefined || life.current !== life.lastGood
  const next = isOnTrial ? { ...judged, lastGood: generation.number } : judged
  return { life: leaveBad(next), told }
}

/**
 * Decides a trial, or takes back that a generation was good.
 *
 * @param badBy the attempt whose failure made the generation bad
 */
export function judgeBad(
  life: Life,
  generation: Generation,
  { reason, why }: Cause,
  badBy?: number,
): Changed {
  const { number } = generation
  const by = badBy === undefined ? {} : { badBy }
  const judgement: Judgement = { verdict: 'bad', reason, ...by }
  const { life: judged, told } = withVerdict(life, generation, judgement, why)
  const next = judged.lastGood === number ? withOtherLastGood(judged, number) : judged
  if (next.current !== number) return { life: next, told }
  if (next.lastGood !== undefined) return { life: { ...next, current: next.lastGood }, told }
  const { machine } = life
  return { life: next, told: [...told, { machine, kind: 'stays', generation: number }] }
}

interface Judgement {
  verdict: 'good' | 'bad'
  reason: string
  badBy?: number
}

/** Changes nothing of what the machine boots next. */
export function withVerdict(
  life: Life,
  generation: Generation,
  judgement: Judgement,
  why?: Why,
): Changed {
  const { badBy: _, isGone: _gone, ...rest } = generation
  const verdictNumber = Math.max(0, ...life.generations.map(verdictNumberOf)) + 1
  const judged = { ...rest, ...judgement, verdictNumber }
  const { verdict: kind, reason } = judgement
  const { machine } = life
  const told: Told = { machine, kind, generation: judged.number, reason, ...(why && { why }) }
  return { life: withGeneration(life, judged), told: [told] }
}

/** A trial has no verdict. */
export function verdictNumberOf({ verdictNumber = 0 }: Generation): number {
  return verdictNumber
}

/** A machine that stayed with a bad generation leaves it once there is a good one. */
export function leaveBad(life: Life): Life {
  const { lastGood } = life
  const isBad = generationOf(life, life.current)?.verdict === 'bad'
  return isBad && lastGood !== undefined ? { ...life, current: lastGood } : life
}

/** The last good generation is then the good one before this one or, if there is none, the newest one. */
function withOtherLastGood(life: Life, number: number): Life {
  const { lastGood: _, ...without } = life
  const newest = life.generations.findLast(({ verdict }) => verdict === 'good')
  const other = goodBefore(life, number) ?? newest
  return other ? { ...without, lastGood: other.number } : without
}

/** The newest good generation with a lower number. */
export function goodBefore(life: Life, number: number): Generation | undefined {
  return life.generations.findLast((each) => each.verdict === 'good' && each.number < number)
}
