/** Why an attempt failed, in words. */
import { expectations } from '../../boots/step.ts'
import { plural } from '../../progress.ts'
import type { Attempt, Cause, Generation, Life, Policy } from './life.ts'

export function tooLate(life: Life, generation: Generation, policy: Policy): Cause {
  const last = life.attempts.findLast((each) => each.generation === generation.number)
  if (last) return notUp(last, policy)
  return { why: 'too-late', reason: `not up within ${inWords(policy.deadline)}` }
}

export function notUp(attempt: Attempt, policy: Policy): Cause {
  const isRestarted = attempt.upFrom !== undefined
  const what = isRestarted ? 'it started again' : 'it stopped'
  const reason = `not up within ${inWords(policy.deadline)}: ${what} ${momentOf(attempt)}`
  return { why: 'too-late', reason }
}

export function noAnswer(ports: readonly number[], policy: Policy): Cause {
  const which = `${ports.length === 1 ? 'TCP port' : 'all of the TCP ports'} ${ports.join(', ')}`
  const reason = `up, but the server could not connect to ${which} within ${inWords(policy.deadline)}`
  return { why: 'no-answer', reason }
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
