/**
 * A system that a machine published is only in the files of the machine. The machine can remove the
 * system, and its files can go back to a state without it. Then no generation of this system can boot:
 * the kernel would start, and would not find its init.
 */
import { assign } from './choose.ts'
import { withGeneration } from './kept.ts'
import {
  generationOf,
  unchanged,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
} from './life.ts'
import { judgeBad } from './verdicts.ts'

/**
 * If the system of the generation that the machine is to boot is gone, the generation is bad, and the
 * machine boots another one: a good one, else the image with which the system was made, else the
 * default. If there is nothing else, the machine has nothing to boot.
 *
 * @param gone the numbers of the generations whose systems are gone
 */
export function leaveGone(
  life: Life,
  gone: ReadonlySet<number>,
  now: Now,
  byDefault?: Candidate,
): Changed {
  const next = generationOf(life, life.current)
  if (!next || !gone.has(next.number)) return unchanged(life)
  const left = leave(life, next, now, byDefault)
  // The next one may be gone as well. Each generation is left once.
  const more = leaveGone(left.life, withoutOne(gone, next.number), now, byDefault)
  return { life: more.life, told: [...left.told, ...more.told] }
}

function leave(life: Life, generation: Generation, now: Now, byDefault?: Candidate): Changed {
  const { number, toplevel } = generation
  const reason = `the machine does not have ${toplevel} any more; run nixos-rebuild on it again, or assign an image to it`
  const { life: judged, told } = judgeBad(life, generation, { reason })
  const bad = generationOf(judged, number)
  const isOnlyGone = generation.verdict !== 'bad' || generation.isGone
  const noted = bad && isOnlyGone ? withGeneration(judged, { ...bad, isGone: true }) : judged
  if (noted.current !== number) return { life: noted, told }
  const other = boots(noted, ofImage(noted, generation, 'trial'))
  const offered = other ?? (byDefault && tries(noted, byDefault, now))
  const last = offered ?? boots(noted, ofImage(noted, generation, 'bad')) ?? withNothing(noted)
  return { life: last, told: told.filter(({ kind }) => kind !== 'stays') }
}

/** The newest generation with this verdict that is the image with which the system was made. */
function ofImage(life: Life, { image }: Generation, verdict: Generation['verdict']) {
  return life.generations.findLast(
    (each) => each.published === undefined && each.image === image && each.verdict === verdict,
  )
}

function boots(life: Life, generation: Generation | undefined): Life | undefined {
  return generation && { ...life, current: generation.number }
}

function tries(life: Life, candidate: Candidate, now: Now): Life | undefined {
  const assigned = assign({ ...life, offered: candidate.image }, candidate, now, 'default')
  return 'refused' in assigned ? undefined : assigned.life
}

function withNothing(life: Life): Life {
  const { current: _, ...rest } = life
  return rest
}

function withoutOne(numbers: ReadonlySet<number>, number: number): Set<number> {
  return new Set([...numbers].filter((each) => each !== number))
}
