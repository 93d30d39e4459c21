/** What a step of a roll-out has changed so far, and how machines stand in it. */
import type { Life, Now } from '../life/life.ts'
import {
  tell,
  type Readiness,
  type RestartRequest,
  type Rollout,
  type RolloutMachine,
  type RolloutTold,
} from './rollout.ts'
import { askedOf, standOf, type Seen } from './stand.ts'
import type { Stand } from './stands.ts'

/** The machines of the site. */
export interface Machines {
  lifeOf: (machine: string) => Life
  /** Why roll-outs of the group leave the machine out. */
  leftOut: (machine: string) => Seen['leftOut']
  /** When the machine was last asked to restart, by any roll-out. */
  requestOf: (machine: string) => RestartRequest | undefined
  /** What a machine that restarts itself last said. */
  readinessOf: (machine: string) => Readiness | undefined
}

/** A step changes at most so many lives, so that the server does nothing else only for a moment. */
const mostLives = 100

export interface Draft {
  rollout: Rollout
  members: Map<string, RolloutMachine>
  machines: Machines
  now: Now
  lives: Map<string, Life>
  requests: Map<string, RestartRequest>
  told: RolloutTold[]
}

export function draftOf(rollout: Rollout, machines: Machines, now: Now): Draft {
  const members = new Map(Object.entries(rollout.machines))
  return { rollout, members, machines, now, lives: new Map(), requests: new Map(), told: [] }
}

export function isFull({ lives }: Draft): boolean {
  return lives.size >= mostLives
}

export function say(draft: Draft, says: string, machine?: string): void {
  draft.told.push(tell(draft.rollout, says, machine))
}

export function seen(draft: Draft, machine: string): Seen {
  const { rollout, members, machines, lives, now } = draft
  return {
    member: members.get(machine) ?? {},
    life: lives.get(machine) ?? machines.lifeOf(machine),
    leftOut: machines.leftOut(machine),
    request: draft.requests.get(machine) ?? requestBy(draft, machines.requestOf(machine)),
    readiness: machines.readinessOf(machine),
    health: rollout.health,
    uptime: now.uptime,
  }
}

/** Each roll-out asks a machine as often as its group says, however often others did. */
function requestBy(
  { rollout: { number }, now }: Draft,
  request: RestartRequest | undefined,
): RestartRequest | undefined {
  const asked = request && askedOf(request, now.uptime)
  return asked && { ...asked, times: asked.rollout === number ? asked.times : 0 }
}

export function standsOf(draft: Draft, names: Iterable<string>): Map<string, Stand> {
  return new Map([...names].map((machine) => [machine, standOf(seen(draft, machine))]))
}
