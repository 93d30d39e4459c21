/** Why an attempt failed, in words. */
import { expectations } from '../../boots/step.ts'
import { plural } from '../../progress.ts'
import type { Attempt, Generation, Life, Policy } from './life.ts'

/** Why an attempt failed, without its details. */
export const reasonKinds = ['too-late', 'no-answer', 'started-again', 'other'] as const

export type ReasonKind = (typeof reasonKinds)[number]

const [late, unanswered] = ['not up within', 'up, but the server could not connect to']

/** @param reason of a verdict or of an attempt */
export function kindOfReason(reason = ''): ReasonKind {
  if (reason.startsWith(late)) return 'too-late'
  if (reason.startsWith(unanswered)) return 'no-answer'
  return /^(?:it )?started again/.test(reason) ? 'started-again' : 'other'
}

export function tooLate(life: Life, generation: Generation, policy: Policy): string {
  const last = life.attempts.findLast((each) => each.generation === generation.number)
  return last ? notUp(last, policy) : `${late} ${inWords(policy.deadline)}`
}

export function notUp(attempt: Attempt, policy: Policy): string {
  const isRestarted = attempt.upFrom !== undefined
  const what = isRestarted ? 'it started again' : 'it stopped'
  return `${late} ${inWords(policy.deadline)}: ${what} ${momentOf(attempt)}`
}

export function noAnswer(ports: readonly number[], policy: Policy): string {
  const which = `${ports.length === 1 ? 'TCP port' : 'all of the TCP ports'} ${ports.join(', ')}`
  return `${unanswered} ${which} within ${inWords(policy.deadline)}`
}

function inWords(milliseconds: number): string {
  const minutes = milliseconds / 60_000
  if (minutes < 1) return plural(Math.round(milliseconds / 1000), 'second')
  return minutes === 1 ? '1 minute' : `${Number(minutes.toFixed(1))} minutes`
}

/** When an attempt stopped, or started again: `before the machine reads its init`. */
export function momentOf({ step, trouble, upFrom }: Attempt): string {
  if (upFrom !== undefined) return 'too soon after it was up'
  if (step === undefined)
    return `without another sign${trouble === undefined ? '' : ` (${trouble})`}`
  if (trouble !== undefined) return `after ${step} (${trouble})`
  // The last step says only that the store is registered, and not that the system is up.
  const next = step === 'registered' ? 'the system says that it is up' : expectations[step].next
  return `before ${next}`
}
