/** The attempts of a machine to boot, and the verdicts that follow from them. */
import { expectations, isAfter, type BootStep } from '../../boots/step.ts'
import { offer } from './choose.ts'
import { leaveGone } from './gone.ts'
import {
  generationOf,
  hasBooted,
  judge,
  keptImagesOf,
  lastAttempt,
  runningAttempt,
  withAttempt,
  withGeneration,
  type Attempt,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Policy,
  type Told,
} from './life.ts'
import { withoutWish } from './states.ts'

/** What a machine does between two starts. */
export type Sign =
  /** It did something with its root. */
  | { kind: 'alive' }
  /** It asks for a boot file, or the server has none for it. */
  | { kind: 'asks' }
  | { kind: 'step'; step: BootStep }
  | { kind: 'trouble'; trouble: string }
  /** It waits, because the server prepares its root. */
  | { kind: 'waits' }
  /** The server has prepared its root, or could not. */
  | { kind: 'waited' }
  /** Its profile names this system, to be booted next. */
  | { kind: 'profile'; toplevel: string }
  /** The module's note that a boot is good. */
  | { kind: 'bless'; bootId: string; toplevel: string }

/** A machine gave a sign in this time before, so it ran. Milliseconds. */
export const runningMs = 60 * 60_000

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
    lastSign: now.uptime,
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
    number: (lastAttempt(life)?.number ?? 0) + 1,
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
  return { life: { ...withAttempt(next, attempt), lastSign: now.uptime }, told }
}

function choose(
  life: Life,
  now: Now,
  policy: Policy,
  { byDefault, gone = new Set() }: Choice,
): Changed {
  const offered = byDefault ? offer(life, byDefault, now) : unchanged(life)
  const generation = generationOf(offered.life, offered.life.current)
  const late =
    generation && isLate(generation, 0, policy)
      ? judge(offered.life, generation, 'bad', tooLate(offered.life, generation, policy))
      : unchanged(offered.life)
  const left = leaveGone(late.life, gone, now, byDefault)
  return { life: left.life, told: [...offered.told, ...late.told, ...left.told] }
}

/**
 * Notes the first attempt in which the machine boots a trial. Earlier versions noted none. Attempts in
 * which the machine only asked DHCP do not count.
 */
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

/** What a machine does belongs to its last attempt, also if that is decided already. */
export function see(life: Life, sign: Sign, now: Now): Changed {
  if (life.attempts.length === 0) return unchanged(life)
  const back = comeBack({ ...life, lastSign: now.uptime }, now)
  const seen = isAsking(sign) ? ask(back, now) : back
  const attempt = lastAttempt(seen)
  const generation = generationOf(seen, attempt?.generation)
  if (!attempt || !generation) return unchanged(seen)
  switch (sign.kind) {
    case 'alive':
    case 'asks':
      return unchanged(seen)
    case 'trouble':
      if (attempt.outcome !== 'running') return unchanged(seen)
      return unchanged(withAttempt(seen, { ...attempt, trouble: sign.trouble }))
    case 'profile':
      return unchanged({ ...seen, profile: sign.toplevel })
    case 'waits':
      return unchanged({ ...seen, waitsFrom: seen.waitsFrom ?? now.uptime })
    case 'waited':
      return unchanged(endWait(seen, now))
    case 'step':
      return unchanged(reach(seen, attempt, generation, sign.step, now))
    case 'bless':
      return bless(seen, attempt, generation, sign, now)
  }
}

/** Decides what the passing of time decides: a machine that is up has settled, or it is too late. */
export function tick(life: Life, now: Now, policy: Policy): Changed {
  const attempt = runningAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  if (!attempt || !generation || attempt.unseenFrom !== undefined) return unchanged(life)
  const { upFrom } = attempt
  if (upFrom !== undefined) {
    // A good generation has shown before that it stays up.
    const isProven = generation.verdict === 'good' && generation.blesses
    const hasSettled = isProven || now.uptime - upFrom >= policy.settle
    return hasSettled ? succeed(life, attempt, generation) : unchanged(life)
  }
  if (!attempt.hasAsked) return unchanged(life)
  const isTrial = generation.verdict === 'trial'
  const took = Math.max(attempt.from, life.waitsFrom ?? now.uptime) - attempt.from
  const isOver = isTrial ? isLate(generation, took, policy) : took >= policy.deadline
  if (!isOver) return unchanged(life)
  const reason = isTrial ? tooLate(life, generation, policy) : notUp(attempt, policy)
  const failed = withAttempt(life, { ...attempt, outcome: 'failed', reason })
  if (isTrial) return judge(failed, generation, 'bad', reason)
  return alarm(failed, generation, attempt, reason)
}

/**
 * A server starts: the attempts that an earlier run of the server began may go on, or not. No machine
 * waits for what that run did.
 */
export function becomeUnseen(before: Life, now: Now): Life {
  const life = endWait(before, now)
  const attempt = runningAttempt(life)
  if (!attempt || attempt.unseenFrom !== undefined) return life
  return withAttempt(life, { ...attempt, unseenFrom: now.uptime })
}

function endWait(life: Life, now: Now): Life {
  const { waitsFrom, ...counted } = countWait(life, now)
  return waitsFrom === undefined ? life : counted
}

/** Takes the time in which the machine has waited until now from that of its attempt. */
function countWait(life: Life, now: Now): Life {
  const { waitsFrom } = life
  const attempt = runningAttempt(life)
  if (waitsFrom === undefined) return life
  const waits = { ...life, waitsFrom: now.uptime }
  if (!attempt) return waits
  const waited = now.uptime - Math.max(attempt.from, waitsFrom)
  return withAttempt(waits, { ...attempt, from: attempt.from + waited })
}

function unchanged(life: Life): Changed {
  return { life, told: [] }
}

/** @param took how long the attempt took that runs */
function isLate({ verdict, spent }: Generation, took: number, policy: Policy): boolean {
  return verdict === 'trial' && spent + took >= policy.deadline
}

function tooLate(life: Life, generation: Generation, policy: Policy): string {
  const last = life.attempts.findLast((each) => each.generation === generation.number)
  return last ? notUp(last, policy) : `not up within ${inMinutes(policy.deadline)}`
}

function notUp(attempt: Attempt, policy: Policy): string {
  const isRestarted = attempt.upFrom !== undefined
  const what = isRestarted ? 'it started again' : 'it stopped'
  return `not up within ${inMinutes(policy.deadline)}: ${what} ${momentOf(attempt)}`
}

function inMinutes(milliseconds: number): string {
  const minutes = milliseconds / 60_000
  return minutes === 1 ? '1 minute' : `${Number(minutes.toFixed(1))} minutes`
}

/** When an attempt stopped, or started again: `before the machine reads its init`. */
function momentOf({ step, trouble, upFrom }: Attempt): string {
  if (upFrom !== undefined) return 'too soon after it was up'
  if (step === undefined)
    return `without another sign${trouble === undefined ? '' : ` (${trouble})`}`
  if (trouble !== undefined) return `after ${step} (${trouble})`
  // The last step says only that the store is registered, and not that the system is up.
  const next = step === 'registered' ? 'the system says that it is up' : expectations[step].next
  return `before ${next}`
}

/** A machine that is seen again goes on: its limits do not count the time in which it was unseen. */
function comeBack(life: Life, now: Now): Life {
  const attempt = runningAttempt(life)
  if (attempt?.unseenFrom === undefined) return life
  const { unseenFrom, ...seen } = attempt
  const unseenMs = now.uptime - unseenFrom
  const { upFrom } = seen
  return withAttempt(life, {
    ...seen,
    from: seen.from + unseenMs,
    ...(upFrom !== undefined && { upFrom: upFrom + unseenMs }),
  })
}

/** A machine that only asks DHCP may go on and boot its own disk, or from another server. */
function isAsking(sign: Sign): boolean {
  if (sign.kind === 'step') return isAfter(sign.step, 'dhcp')
  return sign.kind === 'asks' || sign.kind === 'bless'
}

function ask(life: Life, now: Now): Life {
  const attempt = runningAttempt(life)
  if (!attempt || attempt.hasAsked) return life
  return withAttempt(life, { ...attempt, hasAsked: true, from: now.uptime })
}

function reach(
  life: Life,
  attempt: Attempt,
  generation: Generation,
  step: BootStep,
  now: Now,
): Life {
  if (attempt.outcome !== 'running') return life
  if (attempt.step !== undefined && !isAfter(step, attempt.step)) return life
  const { trouble: _, ...rest } = attempt
  const isUp = !generation.blesses && isAfter(step, 'mount') && attempt.upFrom === undefined
  return withAttempt(life, { ...rest, step, ...(isUp && { upFrom: now.uptime }) })
}

function bless(
  life: Life,
  attempt: Attempt,
  generation: Generation,
  { bootId, toplevel }: { bootId: string; toplevel: string },
  now: Now,
): Changed {
  if (attempt.bootId === bootId) return unchanged(life)
  // The file of an earlier boot says nothing of this one.
  if (life.attempts.some((each) => each.bootId === bootId)) return unchanged(life)
  const { machine } = life
  const { number } = generation
  const isOfGeneration =
    toplevel === generation.toplevel || generation.specialisations?.includes(toplevel) === true
  if (!isOfGeneration) {
    // The machine may write its note as often as it likes.
    if (attempt.otherSystem !== undefined) return unchanged(life)
    const reason = `the machine runs ${toplevel} instead of ${generation.toplevel}`
    const noted = withAttempt(life, { ...attempt, otherSystem: toplevel })
    return { life: noted, told: [{ machine, kind: 'other system', generation: number, reason }] }
  }
  const blessed: Attempt = { ...attempt, bootId }
  if (attempt.outcome === 'running') {
    return unchanged(withAttempt(life, { ...blessed, upFrom: attempt.upFrom ?? now.uptime }))
  }
  const isSlow = attempt.outcome === 'failed' && generation.verdict === 'good'
  if (!isSlow) return unchanged(withAttempt(life, blessed))
  // A good generation that was only slow.
  const { reason: _, ...up } = blessed
  return succeed(withAttempt(life, up), up, generation)
}

function succeed(life: Life, attempt: Attempt, generation: Generation): Changed {
  const { alarm: _, ...calm } = withAttempt(life, { ...attempt, outcome: 'good' })
  if (generation.verdict !== 'trial') return unchanged(calm)
  return judge(calm, generation, 'good', 'the machine was up, and stayed up')
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
  const reason = `started again ${moment}`
  const failed = withAttempt(life, { ...attempt, outcome: 'failed', reason })
  if (generation.verdict !== 'trial') return alarm(failed, generation, attempt, reason)
  const told: Told[] = [{ machine, kind: 'attempt failed', generation: number, reason }]
  const failures = generation.failures + 1
  const spent = generation.spent + now.uptime - attempt.from
  const counted = { ...generation, failures, spent }
  const next = withGeneration(failed, counted)
  if (failures < policy.tries) return { life: next, told }
  const times = failures === 1 ? '' : ` ${failures} times, the last time`
  const judged = judge(next, counted, 'bad', `it started again${times} ${moment}`, attempt.number)
  return { life: judged.life, told: [...told, ...judged.told] }
}

/** Only a trial is left for the last good generation. */
function alarm(life: Life, generation: Generation, attempt: Attempt, reason: string): Changed {
  const { machine } = life
  const told = { machine, generation: generation.number, reason }
  if (generation.verdict !== 'good') return { life, told: [{ ...told, kind: 'attempt failed' }] }
  return { life: { ...life, alarm: attempt.number }, told: [{ ...told, kind: 'alarm' }] }
}
