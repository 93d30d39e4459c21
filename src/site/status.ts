/** What a person wants to know of a machine: what it runs, what it boots next, and why. */
import type { Declaration, Declarations } from './declarations.ts'
import { generationOf, lastAttempt, type Attempt, type Generation, type Life } from './life/life.ts'
import type { Hold, SiteRollouts } from './rollout/statements.ts'

export interface MachineStatus {
  machine: string
  name?: string
  /** The last attempt and its generation. */
  last?: {
    attempt: ShownAttempt
    generation: ShownGeneration
    state: MachineState
    /** The state, in words. */
    says: string
  }
  /** The generation that it boots next. */
  next?: ShownGeneration
  /** Why it boots that. */
  why: string
  lastGood?: number
  /** The machine goes back to its state from before this generation at its next start. */
  stateBefore?: number
  /** Why a person is to look at the machine. */
  alarms: readonly string[]
}

/** How the last attempt of a machine goes, or has gone. */
export type MachineState =
  | 'up'
  /** It is up, and has to stay so, and perhaps to accept connections. */
  | 'settling'
  | 'booting'
  /** It waits for the server, which prepares its root. */
  | 'waiting'
  /** It has not been seen since the server started. */
  | 'unseen'
  | 'failed'
  /** It came up after its attempt had failed. */
  | 'late'
  /** The attempt does not count. */
  | 'void'

/** A machine of a site that may have groups. */
export interface MachineInGroup extends MachineStatus {
  group?: string
  /** A person holds it: roll-outs leave it out. */
  held?: Hold
  /** What the file of the site says of it, if that is more than its only hardware address. */
  declared?: Declaration
}

/** What the site has besides the lives of its machines. */
export interface SiteContext extends Pick<SiteRollouts, 'groups' | 'holds'> {
  /** By machine. */
  names: ReadonlyMap<string, string>
  declarations: Declarations
  /** The time in which servers ran, until now. Milliseconds. */
  uptime: number
}

export function statusInSite(
  life: Life,
  { names, groups, holds, declarations, uptime }: SiteContext,
): MachineInGroup {
  const { machine } = life
  const [group, held] = [groups.get(machine), holds.get(machine)]
  const declared = declarations.get(machine)
  return {
    ...statusOf(life, names.get(machine), uptime),
    ...(group !== undefined && { group }),
    ...(held && { held }),
    ...(declared && { declared }),
  }
}

/** Without times in the uptime of servers and the numbers of verdicts: they tell a person nothing. */
export type ShownAttempt = Omit<Attempt, 'from' | 'hasAsked' | 'upFrom' | 'unseenFrom'>
export type ShownGeneration = Omit<Generation, 'spent' | 'verdictNumber' | 'begun'>

/** @param uptime the time in which servers ran, until now. Milliseconds. */
export function statusOf(life: Life, name: string | undefined, uptime: number): MachineStatus {
  const { machine, lastGood } = life
  const attempt = lastAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  const next = generationOf(life, life.current)
  const state = attempt && stateOf(attempt, life)
  return {
    machine,
    ...(name !== undefined && { name }),
    ...(attempt &&
      state &&
      generation && {
        last: {
          attempt: shownAttempt(attempt),
          generation: shownGeneration(generation),
          ...{ state, says: saysOf(state, attempt, generation) },
        },
      }),
    ...(next && { next: shownGeneration(next) }),
    why: next ? whyOf(life, next) : 'it gets the image of the server',
    ...(lastGood !== undefined && { lastGood }),
    ...(life.stateBack && { stateBefore: life.stateBack.before }),
    alarms: [...alarmOf(life), ...powerOf(attempt, next, uptime), ...unpublishedOf(life, next)],
  }
}

export function shownAttempt(attempt: Attempt): ShownAttempt {
  const { from: _, hasAsked: _asked, upFrom: _up, unseenFrom: _unseen, ...shown } = attempt
  return shown
}

export function shownGeneration(generation: Generation): ShownGeneration {
  const { spent: _, verdictNumber: _number, begun: _begun, ...shown } = generation
  return shown
}

function stateOf(
  { outcome, bootId, upFrom, unseenFrom }: Attempt,
  { waitsFrom }: Life,
): MachineState {
  if (outcome === 'good') return 'up'
  if (outcome === 'failed') return bootId === undefined ? 'failed' : 'late'
  if (outcome === 'void') return 'void'
  if (unseenFrom !== undefined) return 'unseen'
  if (upFrom !== undefined) return 'settling'
  return waitsFrom === undefined ? 'booting' : 'waiting'
}

function saysOf(
  state: MachineState,
  { step, hasAnswered }: Attempt,
  { verdict, policy }: Generation,
): string {
  switch (state) {
    case 'up':
    case 'failed':
    case 'void':
      return state
    case 'late':
      return 'failed: it came up too late, and runs'
    case 'unseen':
      return 'not seen since the server started'
    case 'settling': {
      const { tcp = [] } = policy ?? {}
      if (verdict !== 'trial' || hasAnswered || tcp.length === 0) return 'up, not settled yet'
      return `up; it must settle, and accept connections to TCP port ${tcp.join(', ')}`
    }
    case 'waiting':
      return 'waits until the server has prepared its root'
    case 'booting':
      return step === undefined ? 'has begun to boot' : `booting, last step ${step}`
  }
}

function whyOf(life: Life, { number, verdict, failures }: Generation): string {
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
      return isBack ? `generation ${newest.number} is bad: ${newest.reason ?? ''}` : 'it is good'
    }
    case 'bad':
      return 'no generation of the machine is good, so it stays with this one'
  }
}

function alarmOf(life: Life): string[] {
  const attempt = life.attempts.find(({ number }) => number === life.alarm)
  if (!attempt) return []
  return [`good generation ${attempt.generation} does not come up: ${attempt.reason ?? ''}`]
}

/**
 * A machine that hangs starts again by itself after 5 minutes in stage 1, or 10 minutes later on, if its
 * configuration has our module and its board has a watchdog. Milliseconds since it started.
 */
const hungMs = 20 * 60_000

/** Whether the last attempt was given up, and the machine has not started again since. */
function powerOf(
  attempt: Attempt | undefined,
  next: Generation | undefined,
  uptime: number,
): string[] {
  if (attempt?.outcome !== 'failed' || uptime - attempt.from < hungMs) return []
  // A machine that told its boot id after its attempt had failed is up.
  if (attempt.bootId !== undefined) return []
  const then = next ? `generation ${next.number}` : 'the image of the server'
  return [
    `it has not come up and has not started again: switch its power off and on, and it boots ${then}`,
  ]
}

/** nixos-rebuild sets the profile first, and then publishes: a configuration without our hook does not. */
function unpublishedOf({ profile, generations }: Life, next: Generation | undefined): string[] {
  if (profile === undefined) return []
  // A machine that first boots an image in a specialisation has this in its profile.
  const isKnown = generations.some(
    ({ toplevel, specialisations = [] }) =>
      toplevel === profile || specialisations.includes(profile),
  )
  if (isKnown) return []
  const then = next ? `generation ${next.number}` : 'the image of the server'
  return [
    `its profile is ${profile}, which it has not published, so it boots ${then}: this configuration lacks the hook of netimage's module, or the hook failed`,
  ]
}
