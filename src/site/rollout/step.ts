/**
 * A roll-out goes on: looks at the lives of its machines, and does what is to be done now. What a step has
 * done is in the roll-out and the lives that it returns, so that the next step goes on from there. If they
 * are lost, the next step does the same again.
 */
import { plural } from '../../progress.ts'
import { assign } from '../life/choose.ts'
import { generationOf, withGeneration, type Generation, type Life, type Now } from '../life/life.ts'
import { beforeOf, hasTried, takeBack } from '../life/take-back.ts'
import { badIn, limitOf, running, saysBad } from './halt.ts'
import {
  tell,
  type Asked,
  type Assigned,
  type Health,
  type Restart,
  type Rollout,
  type RolloutMachine,
  type RolloutTold,
} from './rollout.ts'
import {
  holdsSlot,
  lastBooted,
  standOf,
  unanswered,
  wantsRestart,
  type Seen,
  type Stand,
} from './stand.ts'

/** The machines of the site. */
export interface Machines {
  lifeOf: (machine: string) => Life
  /** Why roll-outs of the group leave the machine out. */
  leftOut: (machine: string) => Seen['leftOut']
  /** When the machine was last asked to restart, by any roll-out. */
  askedOf: (machine: string) => Asked | undefined
}

export interface Stepped {
  rollout: Rollout
  /** The lives that have changed. */
  lives: readonly Life[]
  /** The machines that are to be restarted now. */
  requests: readonly RestartRequest[]
  told: readonly RolloutTold[]
  /** Whether there is more to do now. */
  isUnfinished: boolean
}

export interface RestartRequest {
  machine: string
  asked: Asked
}

/** A step changes at most so many lives, so that the server does nothing else only for a moment. */
const mostLives = 100

/** What a step has changed so far. */
interface Draft {
  rollout: Rollout
  members: Map<string, RolloutMachine>
  machines: Machines
  now: Now
  lives: Map<string, Life>
  asked: Map<string, Asked>
  told: RolloutTold[]
}

export function step(rollout: Rollout, machines: Machines, now: Now): Stepped {
  const draft = draftOf(rollout, machines, now)
  for (const machine of draft.members.keys()) {
    if (machines.leftOut(machine)) takeBackOne(draft, machine)
  }
  haltOrGoOn(draft)
  if (isStopped(draft.rollout)) takeBackAll(draft)
  else if (draft.rollout.state !== 'paused') {
    assignBegun(draft)
    endWave(draft)
  }
  askForRestarts(draft)
  return finished(draft, rollout)
}

/** The machines that have not tried the image boot what they would have booted. */
export function takenBack(rollout: Rollout, machines: Machines, now: Now): Stepped {
  const draft = draftOf(rollout, machines, now)
  for (const machine of draft.members.keys()) takeBackOne(draft, machine)
  return finished(draft, rollout)
}

function draftOf(rollout: Rollout, machines: Machines, now: Now): Draft {
  const members = new Map(Object.entries(rollout.machines))
  return { rollout, members, machines, now, lives: new Map(), asked: new Map(), told: [] }
}

function finished(draft: Draft, before: Rollout): Stepped {
  const { rollout, members, lives, told } = draft
  const requests = [...draft.asked].map(([machine, asked]) => ({ machine, asked }))
  const isSame = [...members].every(([machine, member]) => before.machines[machine] === member)
  return {
    rollout: isSame ? rollout : { ...rollout, machines: Object.fromEntries(members) },
    ...{ lives: [...lives.values()], requests, told },
    isUnfinished: rollout.wave !== before.wave || isFull(draft),
  }
}

function isStopped({ state }: Rollout): boolean {
  return state === 'halted' || state === 'aborted'
}

function isFull({ lives }: Draft): boolean {
  return lives.size >= mostLives
}

function say(draft: Draft, says: string, machine?: string): void {
  draft.told.push(tell(draft.rollout, says, machine))
}

function seen(draft: Draft, machine: string): Seen {
  const { rollout, members, machines, lives, now } = draft
  return {
    member: members.get(machine) ?? {},
    life: lives.get(machine) ?? machines.lifeOf(machine),
    leftOut: machines.leftOut(machine),
    asked: draft.asked.get(machine) ?? askedBy(rollout, machines.askedOf(machine)),
    health: rollout.health,
    uptime: now.uptime,
  }
}

/** Each roll-out asks a machine as often as its group says, however often others did. */
function askedBy({ number }: Rollout, asked: Asked | undefined): Asked | undefined {
  return asked && { ...asked, times: asked.rollout === number ? asked.times : 0 }
}

function standsOf(draft: Draft, names: Iterable<string>): Map<string, Stand> {
  return new Map([...names].map((machine) => [machine, standOf(seen(draft, machine))]))
}

/**
 * Halts when too many machines are bad. A halt that verdicts of a power cut caused ends when these are taken
 * back. No other halt ends by itself: a person resumes.
 */
function haltOrGoOn(draft: Draft): void {
  const { rollout } = draft
  const stands = standsOf(draft, draft.members.keys())
  const bad = badIn(stands)
  const isTooMany = bad.length >= limitOf(rollout, stands)
  if (rollout.state === 'halted') {
    const { haltedBy = [] } = rollout
    const back = haltedBy.filter((machine) => !bad.includes(machine))
    if (isTooMany || back.length === 0 || !back.every((each) => isExcused(draft, each))) return
    draft.rollout = running(rollout)
    say(draft, 'goes on: a power cut had made the machines bad that halted it')
  } else if (isTooMany && rollout.state !== 'aborted') {
    const reason = saysBad(bad)
    draft.rollout = { ...rollout, state: 'halted', reason, haltedBy: bad }
    say(draft, `halts: ${reason}`)
  }
}

function isExcused(draft: Draft, machine: string): boolean {
  const { member, life } = seen(draft, machine)
  return generationOf(life, member.assigned?.generation)?.isExcused === true
}

function takeBackAll(draft: Draft): void {
  let count = 0
  for (const machine of draft.members.keys()) {
    if (isFull(draft)) break
    if (takeBackOne(draft, machine)) count++
  }
  if (count === 0) return
  const have = count === 1 ? 'has' : 'have'
  say(draft, `takes the image back from ${plural(count, 'machine')} that ${have} not tried it`)
}

/** @returns whether the machine was given the image, and has not tried it */
function takeBackOne(draft: Draft, machine: string): boolean {
  const { member, life } = seen(draft, machine)
  const { assigned, ...rest } = member
  if (!assigned || !isUntried(life, assigned)) return false
  draft.members.set(machine, rest)
  const back = takeBack(life, assigned.generation, assigned.before)
  if (back !== life) draft.lives.set(machine, back)
  return true
}

function isUntried(life: Life, { generation: number, after, before }: Assigned): boolean {
  if (hasTried(life, number, after)) return false
  const verdict = generationOf(life, number)?.verdict
  // A good generation that it was to boot already is not taken from it.
  const isBack = verdict === 'good' && after !== undefined && before.current !== number
  return verdict === 'trial' || isBack
}

/** Gives the image to the machines of all waves that have begun. */
function assignBegun(draft: Draft): void {
  const { waves, wave } = draft.rollout
  for (const machine of waves.slice(0, wave + 1).flatMap(({ machines }) => machines)) {
    if (isFull(draft)) return
    const stand = standOf(seen(draft, machine))
    if (stand === 'pending' || stand === 'refused') assignOne(draft, machine)
  }
}

function assignOne(draft: Draft, machine: string): void {
  const { rollout, now } = draft
  const { member, life } = seen(draft, machine)
  const result = assign(life, rollout.candidate, now, 'person')
  if ('refused' in result) {
    const { number } = result.refused
    if (member.refused === number) return
    draft.members.set(machine, { ...member, refused: number })
    say(draft, `leaves the machine out: the image was bad on it as generation ${number}`, machine)
    return
  }
  const { refused: _, ...rest } = member
  const { number } = result.generation
  const last = lastBooted(life)
  const isToBoot = result.generation.verdict === 'good' && last?.generation !== number
  const assigned: Assigned = {
    ...{ generation: number, from: now.uptime, before: beforeOf(life) },
    ...(isToBoot && { after: last?.number ?? 0 }),
  }
  draft.members.set(machine, { ...rest, assigned })
  const given = withPolicy(result.life, result.generation, rollout.health)
  draft.lives.set(machine, { ...given, keep: rollout.keep })
}

function withPolicy(life: Life, generation: Generation, { tcp, ...health }: Health): Life {
  if (generation.verdict !== 'trial') return life
  const policy = tcp.length > 0 ? { ...health, tcp } : health
  return withGeneration(life, { ...generation, policy })
}

function endWave(draft: Draft): void {
  const { rollout } = draft
  const { waves, wave } = rollout
  if (rollout.state === 'done') return
  if (wave + 1 >= waves.length) {
    if (!isDone(draft)) return
    draft.rollout = { ...rollout, state: 'done' }
    say(draft, `is done${leftToDo(standsOf(draft, draft.members.keys()))}`)
    return
  }
  const end = endOf(draft, waves[wave]?.machines ?? [])
  if (!end) return
  const next = plural(waves[wave + 1]?.machines.length ?? 0, 'machine')
  if (waves[wave]?.pause || end === 'refused') {
    const what = end === 'refused' ? 'was not tried, because the image was bad before' : 'has ended'
    const reason = `wave ${wave + 1} ${what}, and the next one waits for a person`
    draft.rollout = { ...rollout, wave: wave + 1, state: 'paused', reason }
    say(draft, `pauses: ${reason}`)
  } else {
    draft.rollout = { ...rollout, wave: wave + 1 }
    say(draft, `begins wave ${wave + 2}: ${next}`)
  }
}

/**
 * Whether the wave has ended. Machines that are away or left out hold up no wave. One that has tried the image
 * and is not good does, until a person holds it.
 *
 * @returns `refused` if no machine can try the image, and not only because people decided so
 */
function endOf(draft: Draft, names: readonly string[]): 'ended' | 'refused' | undefined {
  const stands = standsOf(draft, names)
  const all = [...stands.values()]
  const isBusy = [...stands].some(([machine, stand]) => {
    if (holdsUp.has(stand)) return true
    if (stand !== 'next' && stand !== 'waiting') return false
    const { member, life } = seen(draft, machine)
    const { generation = 0, after } = member.assigned ?? {}
    const isTried = hasTried(life, generation, after)
    const isComing = stand === 'next' && wantsRestart(seen(draft, machine)) !== undefined
    return isTried || isComing
  })
  if (isBusy) return undefined
  if (all.includes('good')) return 'ended'
  if (!all.every((stand) => isOut.has(stand))) return undefined
  return all.includes('refused') ? 'refused' : 'ended'
}

/** A machine that stands so is not going to try the image. */
const isOut: ReadonlySet<Stand> = new Set([
  ...(['held', 'moved', 'broken', 'refused', 'left'] as const),
])

const holdsUp: ReadonlySet<Stand> = new Set(['pending', 'asked', 'booting', 'lost', 'bad'] as const)

/** After the last wave, nothing is left to protect: all machines that are there have tried. */
function isDone(draft: Draft): boolean {
  const stands = new Set(standsOf(draft, draft.members.keys()).values())
  const open = ['pending', 'next', 'asked', 'booting'] as const
  if (open.some((each) => stands.has(each))) return false
  return stands.has('good') || stands.has('bad') || [...stands].every((stand) => isOut.has(stand))
}

function leftToDo(stands: ReadonlyMap<string, Stand>): string {
  const shown = ['bad', 'lost', 'waiting', 'held', 'refused', 'left'] as const
  const counts = shown.flatMap((stand) => {
    const count = [...stands.values()].filter((each) => each === stand).length
    return count > 0 ? [`${count} ${stand}`] : []
  })
  return counts.map((each) => `, ${each}`).join('')
}

/** Asks machines to restart while there are slots. Those that hang come first. */
function askForRestarts(draft: Draft): void {
  const { rollout, members } = draft
  const names = [...members.keys()]
  const stands = standsOf(draft, names)
  const mayGoOn = rollout.state === 'running' || rollout.state === 'done'
  const hanging = names.filter((each) => isHanging(stands.get(each)))
  const others = mayGoOn ? names.filter((each) => stands.get(each) === 'next') : []
  // A machine that boots something else is asked when it is up.
  const busy = new Set(names.filter((each) => holdsSlot(seen(draft, each))))
  for (const machine of [...hanging, ...others]) {
    if (busy.size >= rollout.maxUnavailable) return
    const kind = wantsRestart(seen(draft, machine))
    if (!kind || busy.has(machine)) continue
    draft.asked.set(machine, newAsked(draft, machine, kind))
    say(draft, kind === 'reboot' ? 'asks it to restart' : 'switches its power', machine)
    busy.add(machine)
  }
}

function newAsked(draft: Draft, machine: string, kind: Restart): Asked {
  const { number, group } = draft.rollout
  const last = unanswered(seen(draft, machine))
  return {
    ...{ rollout: number, group, kind, uptime: draft.now.uptime, command: 'due' },
    attempt: lastBooted(seen(draft, machine).life)?.number ?? 0,
    times: (last?.times ?? 0) + 1,
    ...(last && { before: last }),
  }
}

/** Some of these do not come back by themselves. */
function isHanging(stand: Stand | undefined): boolean {
  return stand === 'bad' || stand === 'waiting' || stand === 'lost'
}
