/** What people, the machine itself and the site's default choose for a machine to boot. */
import {
  generationOf,
  goodBefore,
  isSame,
  judge,
  leaveBad,
  withGeneration,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
} from './life.ts'

/** `default`: the image that the server gives to all machines for which nobody chose one. */
export type Chooser = 'person' | 'machine' | 'default'

export interface Assigned extends Changed {
  /**
   * - `new`: a new generation is in trial
   * - `same`: the machine boots this already
   * - `back`: the machine goes back to its last good generation, which is the same
   * - `bad`: refused, because the generation was bad on this machine
   */
  result: 'new' | 'same' | 'back' | 'bad'
  generation: Generation
}

/** Gives a machine something to boot, in trial. A trial that is not decided yet is given up. */
export function assign(life: Life, candidate: Candidate, now: Now, by: Chooser): Assigned {
  const known = life.generations.filter((each) => isSame(each, candidate))
  const judged = known.findLast(({ verdict }) => verdict !== 'trial')
  if (judged?.verdict === 'bad') return { life, told: [], result: 'bad', generation: judged }
  const chosen: Life = { ...life, isChosen: by !== 'default' }
  const current = generationOf(life, life.current)
  if (current && isSame(current, candidate)) {
    return { life: chosen, told: [], result: 'same', generation: current }
  }
  const left = leaveTrial(chosen)
  const lastGood = generationOf(life, life.lastGood)
  if (lastGood && isSame(lastGood, candidate)) {
    const life = { ...left, current: lastGood.number }
    return { life, told: [], result: 'back', generation: lastGood }
  }
  const generation: Generation = {
    ...candidate,
    number: (life.generations.at(-1)?.number ?? 0) + 1,
    madeAt: now.at,
    verdict: 'trial',
    failures: 0,
    spent: 0,
  }
  const next = { ...withGeneration(left, generation), current: generation.number }
  return { life: next, told: [], result: 'new', generation }
}

/**
 * Gives a machine the site's default, unless a person or the machine chose something else, or the
 * machine was given this default before.
 */
export function offer(life: Life, candidate: Candidate, now: Now): Changed {
  const isNew = life.offered !== candidate.image
  if (!isNew || (life.isChosen && life.current !== undefined)) return { life, told: [] }
  const offered = assign({ ...life, offered: candidate.image }, candidate, now, 'default')
  if (offered.result !== 'bad') return offered
  const { number, reason } = offered.generation
  const told = { machine: life.machine, kind: 'default refused', generation: number } as const
  return { life: offered.life, told: [{ ...told, ...(reason !== undefined && { reason }) }] }
}

function leaveTrial(life: Life): Life {
  const trial = generationOf(life, life.current)
  if (trial?.verdict !== 'trial') return life
  return withGeneration(life, {
    ...trial,
    reason: 'another generation was chosen before a verdict',
  })
}

/** Why a machine cannot go back. */
export type NoWayBack = 'unknown generation' | 'not good' | 'no good generation'

/**
 * Lets a machine boot an earlier good generation next.
 *
 * @param to default: the last good generation, or the one before it if the machine boots that
 */
export function rollback(
  life: Life,
  to: number | undefined,
): { life: Life; generation: Generation } | NoWayBack {
  const target = to === undefined ? wayBack(life) : generationOf(life, to)
  if (!target) return to === undefined ? 'no good generation' : 'unknown generation'
  if (target.verdict !== 'good') return 'not good'
  const { number } = target
  const left = life.current === number ? life : leaveTrial(life)
  const next = { ...left, current: number, lastGood: number, isChosen: true }
  return { life: next, generation: target }
}

function wayBack(life: Life): Generation | undefined {
  if (life.current === undefined) return undefined
  if (life.current !== life.lastGood) return generationOf(life, life.lastGood)
  return goodBefore(life, life.current)
}

/**
 * The verdict of a person.
 *
 * @param number default: the generation that the machine boots next
 * @returns undefined if the machine has no such generation
 */
export function decide(
  life: Life,
  number: number | undefined,
  verdict: 'good' | 'bad',
): (Changed & { generation: Generation }) | undefined {
  const found = generationOf(life, number ?? life.current)
  if (!found) return undefined
  const reason = 'a person said so'
  const changed = verdict === 'good' ? call(life, found, reason) : judge(life, found, 'bad', reason)
  return { ...changed, generation: generationOf(changed.life, found.number) ?? found }
}

/** A good generation that the machine does not boot next only becomes one that it can go back to. */
function call(life: Life, generation: Generation, reason: string): Changed {
  const { number } = generation
  const { told, ...good } = judge(life, generation, 'good', reason)
  const isNext = life.current === number || life.lastGood === undefined
  if (isNext) return { life: leaveBad({ ...good.life, lastGood: number }), told }
  const { lastGood } = life
  return { life: { ...good.life, ...(lastGood !== undefined && { lastGood }) }, told }
}
