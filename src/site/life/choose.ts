/** What people, the machine itself and the site's default choose for a machine to boot. */
import { withGeneration } from './kept.ts'
import {
  generationOf,
  isAlike,
  isWanted,
  nextGeneration,
  unchanged,
  wantedOf,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Wanted,
} from './life.ts'
import { withoutWish } from './states.ts'
import { goodBefore, judgeBad, leaveBad, verdictNumberOf, withVerdict } from './verdicts.ts'

/** `default`: the image that the server gives to all machines for which nobody chose one. */
export type Chooser = 'person' | 'machine' | 'default'

export interface Assigned extends Changed {
  /**
   * - `new`: a new generation is in trial
   * - `same`: the machine boots this next already
   * - `back`: the machine goes back to its last good generation, which is this
   */
  result: 'new' | 'same' | 'back'
  generation: Generation
}

/** The generation with which this was bad on the machine. Nothing has changed. */
export interface Refused {
  refused: Generation
}

/**
 * Gives a machine something to boot, in trial. A trial that is not decided yet is given up. What was
 * bad on the machine is refused.
 */
export function assign(
  life: Life,
  candidate: Candidate,
  now: Now,
  by: Chooser,
): Assigned | Refused {
  const known = findKnown(life, wantedOf(candidate))
  if (known && 'refused' in known) return known
  const chosen: Life = { ...life, isChosen: by !== 'default' }
  if (known?.result === 'same') {
    // A machine that builds again what it boots already has chosen nothing else.
    return { life: by === 'machine' ? life : chosen, told: [], ...known }
  }
  const left = withoutWish(leaveTrial(chosen))
  if (known) return { life: { ...left, current: known.generation.number }, told: [], ...known }
  const generation: Generation = {
    ...candidate,
    number: nextGeneration(life),
    madeAt: now.at,
    verdict: 'trial',
    failures: 0,
    spent: 0,
  }
  const next = { ...withGeneration(left, generation), current: generation.number }
  return { life: next, told: [], result: 'new', generation }
}

/** Why something needs no new generation. The results are those of `assign`. */
export type Known = Pick<Assigned, 'generation'> & { result: 'same' | 'back' }

/** @returns undefined if the machine is to try this in a new generation */
export function findKnown(life: Life, wanted: Wanted): Known | Refused | undefined {
  const current = generationOf(life, life.current)
  if (current && current.verdict !== 'bad' && isWanted(current, wanted)) {
    return { result: 'same', generation: current }
  }
  const lastGood = generationOf(life, life.lastGood)
  if (lastGood && isWanted(lastGood, wanted)) return { result: 'back', generation: lastGood }
  const bad = badBefore(life, wanted)
  return bad && { refused: bad }
}

/**
 * Whether this was bad on the machine. The newest verdict counts: a person may have said that it is
 * good after all. A system that was gone says nothing of the same system if it is there again.
 *
 * @returns the generation that was bad
 */
function badBefore(life: Life, wanted: Wanted): Generation | undefined {
  const judged = life.generations
    .filter(({ verdict, isGone }) => verdict !== 'trial' && !isGone)
    .filter((each) => isAlike(wantedOf(each), wanted))
    .toSorted((one, other) => verdictNumberOf(one) - verdictNumberOf(other))
    .at(-1)
  return judged?.verdict === 'bad' ? judged : undefined
}

/**
 * Gives a machine the site's default, unless a person or the machine chose something else, or the
 * machine was given this default before.
 */
export function offer(life: Life, candidate: Candidate, now: Now): Changed {
  const isNew = life.offered !== candidate.image
  if (!isNew || (life.isChosen && life.current !== undefined)) return unchanged(life)
  const offered = { ...life, offered: candidate.image }
  const assigned = assign(offered, candidate, now, 'default')
  if (!('refused' in assigned)) return assigned
  const { number, reason } = assigned.refused
  const told = { machine: life.machine, kind: 'default refused', generation: number } as const
  return { life: offered, told: [{ ...told, ...(reason !== undefined && { reason }) }] }
}

export function leaveTrial(life: Life): Life {
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
 * Lets a machine boot an earlier good generation next, with the state that it has.
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
  const left = withoutWish(life.current === number ? life : leaveTrial(life))
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
  const changed = verdict === 'good' ? call(life, found, reason) : judgeBad(life, found, { reason })
  return { ...changed, generation: generationOf(changed.life, found.number) ?? found }
}

/** A good generation that the machine does not boot next only becomes one that it can go back to. */
function call(life: Life, generation: Generation, reason: string): Changed {
  const { number } = generation
  const { life: good, told } = withVerdict(life, generation, { verdict: 'good', reason })
  const isNext = life.current === number || life.lastGood === undefined
  return { life: isNext ? leaveBad({ ...good, lastGood: number }) : good, told }
}
