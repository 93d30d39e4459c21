/**
 * A power cut: more than half of the machines that ran start again within a minute, and at least
 * three. The attempts that it cut count for nothing.
 *
 * An attempt that ends fails at once, and its generation may be bad then, because the server must
 * answer the machine now. If other machines show within the minute that the power was cut, that is
 * taken back. Meanwhile the machine boots its last good generation, which is safe.
 *
 * Machines that crash on the same new image also start again together. So a power cut excuses each
 * trial only once.
 */
import { withGeneration } from './kept.ts'
import {
  generationOf,
  unchanged,
  withAttempt,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Restart,
  type Told,
} from './life.ts'
import { leaveBad } from './verdicts.ts'

/** A machine gave a sign in this time before, so it ran. Milliseconds. */
export const runningMs = 60 * 60_000
/** Machines that start again within this time show a power cut. Milliseconds. */
export const powerCutMs = 60_000
const leastMachines = 3
const cause = {
  why: 'power-cut',
  reason: 'the power was cut: most machines started again within a minute',
} as const

/** What tells a power cut, of all machines of a site. Times in uptime. */
export interface Restarts {
  /** How many machines have given a sign since then. */
  ranSince(uptime: number): number
  /** How many machines have started again since then. */
  restartedSince(uptime: number): number
  /** The machines of these whose start failed an attempt that nobody has tried to excuse. */
  failedSince(uptime: number): readonly string[]
}

/** @returns the machines whose last start is to be excused, because the power was cut */
export function cutMachines(restarts: Restarts, now: Now): readonly string[] {
  const since = now.uptime - powerCutMs
  const restarted = restarts.restartedSince(since)
  if (restarted < leastMachines) return []
  if (restarted * 2 <= restarts.ranSince(now.uptime - runningMs)) return []
  return restarts.failedSince(since)
}

/**
 * Whether this tells of a power cut. The process that sees the power cut tells this of all machines of the
 * site; it tells everything else only of its own machines.
 */
export function isOfPowerCut({ kind, why }: Told): boolean {
  return (kind === 'attempt void' || kind === 'taken back') && why === cause.why
}

/**
 * Takes back that the machine's last start failed an attempt, and the verdict that followed. Each start
 * is looked at once: otherwise each of many machines would look again at all that came before.
 */
export function excuse(life: Life): Changed {
  const { restart } = life
  if (restart?.failed === undefined) return unchanged(life)
  return excuseStart({ ...life, restart: { uptime: restart.uptime } }, restart)
}

function excuseStart(life: Life, restart: Restart): Changed {
  const { machine } = life
  const attempt = life.attempts.find(({ number }) => number === restart.failed)
  const generation = generationOf(life, attempt?.generation)
  if (!attempt || !generation || attempt.outcome !== 'failed') return unchanged(life)
  const isBad = generation.verdict === 'bad' && generation.badBy === attempt.number
  const isTrial = generation.verdict === 'trial' || isBad
  if (isTrial && generation.isExcused) return unchanged(life)
  const cut = withAttempt(life, { ...attempt, outcome: 'void', reason: cause.reason })
  const told = { machine, kind: 'attempt void', generation: generation.number, ...cause } as const
  const { alarm, ...calm } = cut
  const next: Life = alarm === attempt.number ? calm : cut
  if (!isTrial) return { life: next, told: [told] }
  const took = restart.uptime - attempt.from
  const trial = withGeneration(next, onTrialAgain(generation, took))
  if (!isBad) return { life: trial, told: [told] }
  // Unless a person chose something else meanwhile.
  const isNext = life.current === life.lastGood || life.current === generation.number
  const back = isNext ? { ...trial, current: generation.number } : trial
  const takenBack = { ...told, kind: 'taken back' } as const
  return { life: leaveBad(back), told: [told, takenBack] }
}

/** @param took how long the attempt took that no longer counts */
function onTrialAgain(generation: Generation, took: number): Generation {
  const { reason, badBy, ...rest } = generation
  const failures = generation.failures - 1
  const spent = generation.spent - took
  // Without `badBy`, the reason is that the trial was left.
  const left = badBy === undefined && reason !== undefined && { reason }
  return { ...rest, ...left, verdict: 'trial', failures, spent, isExcused: true }
}
