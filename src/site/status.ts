/** What a person wants to know of a machine: what it runs, what it boots next, and why. */
import { generationOf, lastAttempt, type Attempt, type Generation, type Life } from './life/life.ts'

export interface MachineStatus {
  machine: string
  name?: string
  /** The last attempt and its generation. */
  last?: { attempt: Attempt; generation: Generation; says: string }
  /** The generation that it boots next. */
  next?: Generation
  /** Why it boots that. */
  why: string
  lastGood?: number
  /** Why a person is to look at the machine. */
  alarms: readonly string[]
}

export function statusOf(life: Life, name: string | undefined): MachineStatus {
  const { machine, lastGood } = life
  const attempt = lastAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  const next = generationOf(life, life.current)
  return {
    machine,
    ...(name !== undefined && { name }),
    ...(attempt && generation && { last: { attempt, generation, says: saysOf(attempt) } }),
    ...(next && { next }),
    why: next ? whyOf(life, next) : 'it gets the image of the server',
    ...(lastGood !== undefined && { lastGood }),
    alarms: [...alarmOf(life), ...powerOf(attempt, next), ...unpublishedOf(life, next)],
  }
}

function saysOf({ outcome, step, upFrom, unseenFrom, reason }: Attempt): string {
  if (outcome === 'good') return 'up'
  if (outcome !== 'running') return reason === undefined ? outcome : `${outcome}: ${reason}`
  if (unseenFrom !== undefined) return 'not seen since the server started'
  if (upFrom !== undefined) return 'up, not settled yet'
  return step === undefined ? 'has begun to boot' : `boots: ${step}`
}

function whyOf(life: Life, { number, verdict, failures, reason }: Generation): string {
  switch (verdict) {
    case 'trial': {
      const isTried = life.attempts.some((each) => each.generation === number)
      if (failures > 0)
        return `in trial, ${failures} ${failures === 1 ? 'attempt' : 'attempts'} failed`
      return isTried ? 'in trial' : 'in trial, not tried yet'
    }
    case 'good': {
      const newest = life.generations.at(-1)
      const isBack = newest && newest.number > number && newest.verdict === 'bad'
      return isBack ? `generation ${newest.number} is bad: ${newest.reason ?? ''}` : 'good'
    }
    case 'bad':
      return `it stays, because it has no good generation: ${reason ?? ''}`
  }
}

function alarmOf(life: Life): string[] {
  const attempt = life.attempts.find(({ number }) => number === life.alarm)
  if (!attempt) return []
  return [`good generation ${attempt.generation} does not come up: ${attempt.reason ?? ''}`]
}

/** Whether the last attempt was given up while the machine still runs in it, or hangs. */
function powerOf(attempt: Attempt | undefined, next: Generation | undefined): string[] {
  if (attempt?.outcome !== 'failed') return []
  const then = next ? `generation ${next.number}` : 'the image of the server'
  return [
    `if it does not start again by itself, switch its power off and on: it then boots ${then}`,
  ]
}

/** nixos-rebuild sets the profile first, and then publishes: a configuration without our hook does not. */
function unpublishedOf({ profile, generations }: Life, next: Generation | undefined): string[] {
  const isKnown = generations.some(({ toplevel }) => toplevel === profile)
  if (profile === undefined || isKnown) return []
  const then = next ? `generation ${next.number}` : 'the image of the server'
  return [
    `its profile is ${profile}, which it has not published, so it boots ${then}: this configuration lacks the hook of netimage's module, or the hook failed`,
  ]
}
