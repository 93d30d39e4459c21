/** How a machine stands in a roll-out, read from its life. */
import { generationOf, hasBooted, lastAttempt, type Attempt, type Life } from '../life/life.ts'
import { hasTried, triesOf } from '../life/take-back.ts'
import type {
  Given,
  Health,
  Readiness,
  Restart,
  RestartRequest,
  RolloutMachine,
} from './rollout.ts'
import type { Stand } from './stands.ts'

/** A machine of a roll-out, as it is now. */
export interface Seen {
  member: RolloutMachine
  life: Life
  /** Why roll-outs of the group leave it out. */
  leftOut: 'held' | 'moved' | 'broken' | undefined
  /** When it was last asked to restart. */
  request: RestartRequest | undefined
  /** Only of a machine that restarts itself. */
  readiness: Readiness | undefined
  health: Health
  /** The time in which servers ran. Milliseconds. */
  uptime: number
}

/**
 * Signs of life are written once a minute. So a machine that was seen this long before something happened
 * may have been seen since.
 */
const unseenMs = 2 * 60_000

/** A machine that runs gives a sign at least this often. One that restarts itself may do nothing else for so long. */
const signMs = 3 * 60_000

/** A machine that restarts itself comes every two or three minutes, and is then told that it may. */
const untoldMs = 5 * 60_000

/** The machine may restart itself, and does not know it yet. */
export function isUntold({ kind, command }: Pick<RestartRequest, 'kind' | 'command'>): boolean {
  return kind === 'itself' && command === 'due'
}

/** What the machine was asked. If it did not come to be told that it may restart itself, nothing was asked. */
export function askedOf(request: RestartRequest, uptime: number): RestartRequest | undefined {
  return isUntold(request) && uptime - request.uptime >= untoldMs ? request.before : request
}

export function standOf(seen: Seen): Stand {
  const { member, life, leftOut } = seen
  const { given, refused } = member
  if (leftOut) return leftOut
  if (!given) return refused === undefined ? 'pending' : 'refused'
  const generation = generationOf(life, given.generation)
  if (!generation) return 'other'
  if (generation.verdict === 'bad') return 'bad'
  if (life.current !== generation.number) {
    return generation.verdict === 'good' && refused === generation.number ? 'pending' : 'other'
  }
  if (generation.verdict === 'good' && hasComeUp(life, given)) return 'good'
  const attempt = lastAttempt(life)
  if (attempt?.generation === generation.number && isBooting(attempt, life)) {
    return isLost(attempt, seen) ? 'lost' : 'booting'
  }
  if (triesOf(life, generation.number, given.after).at(-1)?.outcome === 'failed') return 'lost'
  const request = unanswered(seen)
  if (request && isOpen(request, seen)) return 'asked'
  switch (whereIs(seen, given)) {
    case 'unknown':
      return 'asked'
    case 'away':
      return 'waiting'
    case 'here':
      return waitsForItsTime(seen, given) ? 'waiting' : 'assigned'
  }
}

/**
 * `away`: it has not been seen since it was given the image, or was last asked to restart. `unknown`: it was
 * asked so short a time ago that it may run and not have been seen.
 */
function whereIs(seen: Seen, given: Given): 'here' | 'away' | 'unknown' {
  const { lastSign = -Infinity } = seen.life
  const request = unanswered(seen)
  if (!request) return lastSign < given.from - unseenMs ? 'away' : 'here'
  const since = request.uptime + unseenMs
  if (lastSign >= since) return 'here'
  return seen.uptime >= since + signMs ? 'away' : 'unknown'
}

/** It restarts itself, but its time windows do not let it do so now. */
function waitsForItsTime(seen: Seen, { generation }: Given): boolean {
  const { member, life, readiness } = seen
  if (member.restart?.reboot || !bootsOther(life, generation)) return false
  return readiness !== undefined && isOfThisBoot(readiness, life) && !isReady(seen)
}

function isOfThisBoot({ attempt }: Readiness, life: Life): boolean {
  return attempt === lastBooted(life)?.number
}

/** A machine says every two minutes that it is ready. */
const readyMs = 5 * 60_000

/** Whether the machine would restart itself now. */
function isReady({ readiness, life, uptime }: Seen): boolean {
  if (!readiness?.isReady || !isOfThisBoot(readiness, life)) return false
  return uptime - readiness.uptime < readyMs
}

/** A verdict says nothing of a machine that has not booted what it was given. */
function hasComeUp(life: Life, { generation, after }: Given): boolean {
  return triesOf(life, generation, after).some(({ outcome, upFrom, bootId }) => {
    if (outcome !== 'failed') return outcome === 'good'
    // A person may have called a trial good after it failed because the machine was up too late.
    return after === undefined && (upFrom !== undefined || bootId !== undefined)
  })
}

/** Whether the machine boots or was asked to, so that no other machine may take its place. */
export function holdsSlot(seen: Seen): boolean {
  if (seen.leftOut) return false
  const request = unanswered(seen)
  if (request && isOpen(request, seen)) return true
  const attempt = lastAttempt(seen.life)
  return attempt !== undefined && isBooting(attempt, seen.life) && !isLost(attempt, seen)
}

/** With what the machine is to be asked to restart, as soon as there is a slot for it. */
export function wantsRestart(seen: Seen): Restart | undefined {
  const { member, life, health } = seen
  const { restart = {}, given } = member
  const request = unanswered(seen)
  if (!given || (request && isOpen(request, seen))) return undefined
  const wasCut = request?.kind === 'power' && request.command !== 'cut off'
  const mayCutPower = restart.power !== undefined && !wasCut
  switch (standOf(seen)) {
    case 'assigned':
      if (!bootsOther(life, given.generation)) return undefined
      return (request?.times ?? 0) < health.tries ? restartOf(seen) : undefined
    case 'lost':
      return mayCutPower ? 'power' : undefined
    case 'waiting':
      // It has gone down, and has not come back.
      return request && mayCutPower && whereIs(seen, given) === 'away' ? 'power' : undefined
    case 'bad': {
      if (!isInBad(life, given)) return undefined
      const way = (request?.times ?? 0) === 0 ? restartOf(seen) : undefined
      if (way) return way
      return !runsInBad(seen) && mayCutPower ? 'power' : undefined
    }
    default:
      return undefined
  }
}

/** It has come up too late, if it told its boot id or whether it would restart itself. */
function runsInBad({ life, readiness }: Seen): boolean {
  const hasSaid = readiness !== undefined && isOfThisBoot(readiness, life)
  return hasSaid || lastAttempt(life)?.bootId !== undefined
}

/** How a machine that runs is restarted. A command of a person does not wait for the windows of the machine. */
function restartOf(seen: Seen): 'reboot' | 'itself' | undefined {
  if (seen.member.restart?.reboot) return 'reboot'
  return isReady(seen) ? 'itself' : undefined
}

/** Whether the roll-out has told the machine to restart itself, and the machine has its slot. */
export function mayRestartItself(seen: Seen): boolean {
  const request = unanswered(seen)
  return request?.kind === 'itself' && isOpen(request, seen)
}

/** Whether the machine has the image for its next start, and the roll-out does not restart it any more. */
export function isByHand(seen: Seen): boolean {
  return standOf(seen) === 'assigned' && wantsRestart(seen) === undefined
}

/** Whether the machine stays in the image that is bad, and no command restarts it any more. */
export function isStuck(seen: Seen): boolean {
  const { member, life } = seen
  if (!member.given || standOf(seen) !== 'bad' || !isInBad(life, member.given)) return false
  const request = unanswered(seen)
  if (request && isOpen(request, seen)) return false
  return wantsRestart(seen) === undefined && !(request === undefined && isToBeReady(seen))
}

/** A machine outside of its windows says so about every hour. */
const notReadyMs = 3 * 60 * 60_000

/** It restarts itself when its window comes. */
function isToBeReady({ readiness, life, uptime }: Seen): boolean {
  if (!readiness || readiness.isReady || !isOfThisBoot(readiness, life)) return false
  return uptime - readiness.uptime < notReadyMs
}

/** It runs or hangs in the image that is bad, and boots something else when it starts again. */
function isInBad(life: Life, { generation }: Given): boolean {
  const attempt = lastAttempt(life)
  const isThere = attempt?.generation === generation && attempt.outcome === 'failed'
  return isThere && life.current !== generation
}

/** What the machine was asked, if it has not started again since. */
export function unanswered({ request, life }: Seen): RestartRequest | undefined {
  return request && (lastBooted(life)?.number ?? 0) <= request.attempt ? request : undefined
}

/** Whether the machine runs in something else than the generation. */
function bootsOther(life: Life, generation: number): boolean {
  const last = lastBooted(life)
  return last !== undefined && (last.generation !== generation || last.outcome === 'void')
}

export function lastBooted(life: Life): Attempt | undefined {
  return life.attempts.findLast(hasBooted)
}

/** A machine that does not answer in this time after its command does not answer. */
function isOpen(request: RestartRequest, { health, uptime }: Seen): boolean {
  const isToEnd = request.command === 'due' || request.command === 'begun'
  return isToEnd || uptime - request.uptime < health.deadline
}

/**
 * A machine that only asked DHCP may go on and boot its own disk. But one whose last try has just failed is
 * about to try again.
 */
function isBooting({ outcome, hasAsked, generation }: Attempt, life: Life): boolean {
  if (outcome !== 'running') return false
  const isTrial = generationOf(life, generation)?.verdict === 'trial'
  return hasAsked === true || (isTrial && hasTried(life, generation))
}

/** It has not been seen for long: since the server ended while it booted, or since it only asked DHCP. */
function isLost({ unseenFrom, hasAsked, from }: Attempt, { health, uptime }: Seen): boolean {
  const since = unseenFrom ?? (hasAsked ? undefined : from)
  return since !== undefined && uptime - since >= health.deadline
}
