/** The start of an attempt: ends the one before, looks for a power cut, and binds the new one. */
import { alarm, countWait, isLate, tick } from './attempts.ts'
import { offer } from './choose.ts'
import { leaveGone } from './gone.ts'
import { keptImagesOf, withGeneration } from './kept.ts'
import {
  generationOf,
  hasBooted,
  lastAttempt,
  nextAttempt,
  policyOf,
  runningAttempt,
  signNow,
  unchanged,
  withAttempt,
  type Attempt,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Policy,
  type Told,
} from './life.ts'
import { cutMachines, excuse, runningMs, type Restarts } from './power-cut.ts'
import { momentOf, tooLate } from './reasons.ts'
import { withoutWish } from './states.ts'
import { judgeBad } from './verdicts.ts'

/** The machines of a site. */
export interface Lives extends Restarts {
  /** The life of a machine, which may be new. */
  of(machine: string): Life
  keep(life: Life): void
}

/** @returns the life after the action, which is kept if it has changed */
export function keepChange(
  lives: Pick<Lives, 'of' | 'keep'>,
  machine: string,
  told: Told[],
  action: (life: Life) => Changed,
): Life {
  const life = lives.of(machine)
  const changed = action(life)
  if (changed.life !== life) lives.keep(changed.life)
  told.push(...changed.told)
  return changed.life
}

/** The machine was just given the site's default to boot next. */
export interface GivenByDefault {
  generation: Generation
  /** As in `Assigned`. */
  result: 'new' | 'back'
  /** The number of the generation that it was to boot before. */
  before: number | undefined
}

export interface Begun extends Changed {
  byDefault?: GivenByDefault
}

/** The last attempt of the machine is the new one, and runs, unless the machine has nothing to boot. */
export function begin(
  lives: Lives,
  machine: string,
  { now, policy, ...choice }: { now: Now; policy: Policy } & Choice,
): Begun {
  const told: Told[] = []
  keepChange(lives, machine, told, (life) =>
    // Otherwise each address that asks would be kept, also if there is nothing for it to boot.
    life.attempts.length === 0 ? unchanged(life) : restart(life, now, policy),
  )
  for (const cut of cutMachines(lives, now)) keepChange(lives, cut, told, excuse)
  let byDefault: GivenByDefault | undefined
  const life = keepChange(lives, machine, told, (life) => {
    const bound = bind(life, now, policy, choice)
    byDefault = givenByDefault(life, bound.life)
    return bound
  })
  return { life, told, ...(byDefault && { byDefault }) }
}

/** Nobody else chooses a generation between the two lives. */
function givenByDefault(
  { generations: known, current: before, offered: last }: Life,
  { generations, current, offered }: Life,
): GivenByDefault | undefined {
  const newest = generations.at(-1)
  if (newest && newest.number > (known.at(-1)?.number ?? 0)) {
    return { generation: newest, result: 'new', before }
  }
  if (offered === last || current === before) return undefined
  const back = generations.find(({ number, image }) => number === current && image === offered)
  return back && { generation: back, result: 'back', before }
}

/**
 * Ends the attempt that runs, as if the machine started again. The caller then looks for a power cut
 * (power-cut.ts), and only then binds the next attempt.
 */
export function restart(life: Life, now: Now, policy: Policy): Changed {
  const { life: looked, told } = tick(countWait(life, now), now, policy)
  const running = runningAttempt(looked)
  const ended = running ? endByRestart(looked, running, now, policy) : unchanged(looked)
  const didRun = life.lastSign !== undefined && now.uptime - life.lastSign <= runningMs
  const failed = lastAttempt(ended.life)
  const hasFailed = running !== undefined && failed?.outcome === 'failed'
  const { restart: _, ...rest } = ended.life
  const restarted: Life = {
    ...rest,
    ...signNow(now),
    ...(didRun &&
      life.attempts.length > 0 && {
        restart: { uptime: now.uptime, ...(hasFailed && { failed: running.number }) },
      }),
  }
  return { life: restarted, told: [...told, ...ended.told] }
}

/** What may change which generation a machine boots when it starts. */
export interface Choice {
  /** What the machine boots if nobody chose anything for it. */
  byDefault?: Candidate | undefined
  /** The numbers of the generations whose systems are not in the files of the machine any more. */
  gone?: ReadonlySet<number> | undefined
}

/** Binds a new attempt to the generation that the machine is to boot, if there is one. */
export function bind(life: Life, now: Now, policy: Policy, choice: Choice = {}): Changed {
  const chosen = choose(life, now, policy, choice)
  const { told } = chosen
  const bound = generationOf(chosen.life, chosen.life.current)
  if (!bound) return chosen
  const begun: Attempt = {
    number: nextAttempt(life),
    generation: bound.number,
    keptImages: [],
    startedAt: now.at,
    from: now.uptime,
    outcome: 'running',
  }
  const isForOther =
    chosen.life.stateBack !== undefined && chosen.life.stateBack.to !== bound.number
  const next = noteBegun(isForOther ? withoutWish(chosen.life) : chosen.life, bound, begun.number)
  const needed = keptImagesOf(withAttempt(next, begun))
  const attempt = { ...begun, keptImages: needed.filter((id) => id !== bound.image) }
  return { life: { ...withAttempt(next, attempt), ...signNow(now) }, told }
}

function choose(
  life: Life,
  now: Now,
  policy: Policy,
  { byDefault, gone = new Set() }: Choice,
): Changed {
  const offered = byDefault ? offer(life, byDefault, now) : unchanged(life)
  const generation = generationOf(offered.life, offered.life.current)
  const limits = generation && policyOf(generation, policy)
  const late =
    generation && limits && isLate(generation, 0, limits)
      ? judgeBad(offered.life, generation, tooLate(offered.life, generation, limits))
      : unchanged(offered.life)
  const left = leaveGone(late.life, gone, now, byDefault)
  return { life: left.life, told: [...offered.told, ...late.told, ...left.told] }
}

/** Notes the first attempt in which the machine boots a trial. If it only asked DHCP in one, this is none. */
function noteBegun(life: Life, generation: Generation, attempt: number): Life {
  const { attempts } = life
  const after = attempts.findLast(hasBooted)?.generation
  const noted = generation.begun?.attempt
  const isTried =
    attempts.some((each) => each.generation === generation.number && hasBooted(each)) ||
    // The noted attempt is so old that its record is gone.
    (noted !== undefined && !attempts.some(({ number }) => number === noted))
  if (generation.verdict !== 'trial' || after === undefined || isTried) return life
  return withGeneration(life, { ...generation, begun: { attempt, after } })
}

function endByRestart(life: Life, attempt: Attempt, now: Now, policy: Policy): Changed {
  const generation = generationOf(life, attempt.generation)
  if (!generation) return unchanged(life)
  const { machine } = life
  const { number } = generation
  const whyVoid =
    attempt.unseenFrom === undefined
      ? 'the machine asked for no boot file'
      : 'the server ended while the machine booted'
  if (attempt.unseenFrom !== undefined || !attempt.hasAsked) {
    const ended = withAttempt(life, { ...attempt, outcome: 'void', reason: whyVoid })
    const told = { machine, kind: 'attempt void', generation: number, reason: whyVoid } as const
    return { life: ended, told: [told] }
  }
  const moment = momentOf(attempt)
  const cause = { why: 'started-again', reason: `started again ${moment}` } as const
  const failed = withAttempt(life, { ...attempt, outcome: 'failed', reason: cause.reason })
  if (generation.verdict !== 'trial') return alarm(failed, generation, attempt, cause)
  const told: Told[] = [{ machine, kind: 'attempt failed', generation: number, ...cause }]
  const failures = generation.failures + 1
  const spent = generation.spent + now.uptime - attempt.from
  const counted = { ...generation, failures, spent }
  const next = withGeneration(failed, counted)
  if (failures < policyOf(generation, policy).tries) return { life: next, told }
  const times = failures === 1 ? '' : ` ${failures} times, the last time`
  const all = { ...cause, reason: `it started again${times} ${moment}` }
  const judged = judgeBad(next, counted, all, attempt.number)
  return { life: judged.life, told: [...told, ...judged.told] }
}
