/** What a machine does in an attempt to boot, and the verdicts that follow from it: see begin.ts. */
import { isAfter, type BootStep } from '../../boots/step.ts'
import {
  generationOf,
  lastAttempt,
  policyOf,
  runningAttempt,
  signNow,
  unchanged,
  withAttempt,
  type Attempt,
  type Cause,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Policy,
} from './life.ts'
import { noAnswer, notUp, tooLate } from './reasons.ts'
import { judgeBad, judgeGood } from './verdicts.ts'

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
  /** In this attempt, it has accepted connections at all ports that were tried. */
  | { kind: 'answers'; attempt: number }

/** What a machine does belongs to its last attempt, also if that is decided already. */
export function see(life: Life, sign: Sign, now: Now): Changed {
  if (life.attempts.length === 0) return unchanged(life)
  const back = comeBack({ ...life, ...signNow(now) }, now)
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
    case 'answers': {
      const isOfAttempt = attempt.outcome === 'running' && attempt.number === sign.attempt
      return unchanged(isOfAttempt ? withAttempt(seen, { ...attempt, hasAnswered: true }) : seen)
    }
    case 'bless':
      return bless(seen, attempt, generation, sign, now)
  }
}

/** Decides what the passing of time decides: a machine that is up has settled, or it is too late. */
export function tick(life: Life, now: Now, byDefault: Policy): Changed {
  const attempt = runningAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  if (!attempt || !generation || attempt.unseenFrom !== undefined) return unchanged(life)
  const policy = policyOf(generation, byDefault)
  const { upFrom } = attempt
  if (upFrom !== undefined) {
    // A good generation has shown before that it stays up.
    const isProven = generation.verdict === 'good' && generation.blesses
    const settledMs = now.uptime - upFrom - policy.settle
    if (!isProven && settledMs < 0) return unchanged(life)
    const ports = portsToTry(generation, attempt, policy)
    if (ports.length === 0) return succeed(life, attempt, generation)
    const isLast =
      settledMs >= leastAnswerMs && isLate(generation, now.uptime - attempt.from, policy)
    if (!isLast) return unchanged(life)
    const cause = noAnswer(ports, policy)
    const { reason } = cause
    const failed = withAttempt(life, { ...attempt, outcome: 'failed', reason })
    return judgeBad(failed, generation, cause)
  }
  if (!attempt.hasAsked) return unchanged(life)
  const isTrial = generation.verdict === 'trial'
  const took = Math.max(attempt.from, life.waitsFrom ?? now.uptime) - attempt.from
  const isOver = isTrial ? isLate(generation, took, policy) : took >= policy.deadline
  if (!isOver) return unchanged(life)
  const cause = isTrial ? tooLate(life, generation, policy) : notUp(attempt, policy)
  const { reason } = cause
  const failed = withAttempt(life, { ...attempt, outcome: 'failed', reason })
  if (isTrial) return judgeBad(failed, generation, cause)
  return alarm(failed, generation, attempt, cause)
}

/** The machine has at least this time to accept connections after it has settled. Milliseconds of uptime. */
const leastAnswerMs = 30_000

function portsToTry(
  { verdict }: Generation,
  { hasAnswered }: Attempt,
  { tcp = [] }: Policy,
): readonly number[] {
  return verdict === 'trial' && !hasAnswered ? tcp : []
}

/** The machine has settled, and is good once it accepts connections at these ports. */
export interface PortsToTry {
  attempt: number
  ports: readonly number[]
}

export function portsToTryIn(life: Life, now: Now, byDefault: Policy): PortsToTry | undefined {
  const attempt = runningAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  if (attempt?.upFrom === undefined || !generation || attempt.unseenFrom !== undefined)
    return undefined
  const policy = policyOf(generation, byDefault)
  const ports = portsToTry(generation, attempt, policy)
  const isDue = ports.length > 0 && now.uptime - attempt.upFrom >= policy.settle
  return isDue ? { attempt: attempt.number, ports } : undefined
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
export function countWait(life: Life, now: Now): Life {
  const { waitsFrom } = life
  const attempt = runningAttempt(life)
  if (waitsFrom === undefined) return life
  const waits = { ...life, waitsFrom: now.uptime }
  if (!attempt) return waits
  const waited = now.uptime - Math.max(attempt.from, waitsFrom)
  return withAttempt(waits, { ...attempt, from: attempt.from + waited })
}

/** @param took how long the attempt took that runs */
export function isLate({ verdict, spent }: Generation, took: number, policy: Policy): boolean {
  return verdict === 'trial' && spent + took >= policy.deadline
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
  return judgeGood(calm, generation, 'the machine was up, and stayed up')
}

/** Only a trial is left for the last good generation. */
export function alarm(life: Life, generation: Generation, attempt: Attempt, cause: Cause): Changed {
  const { machine } = life
  const told = { machine, generation: generation.number, ...cause }
  if (generation.verdict !== 'good') return { life, told: [{ ...told, kind: 'attempt failed' }] }
  return { life: { ...life, alarm: attempt.number }, told: [{ ...told, kind: 'alarm' }] }
}
