// One machine of a fleet: it gets updates and boots them, and checks what it is answered.

import assert from 'node:assert/strict'
import type { SiteDatabase } from '../../../src/site/database.ts'
import { assign } from '../../../src/site/life/choose.ts'
import {
  generationOf,
  type Attempt,
  type Candidate,
  type Life,
} from '../../../src/site/life/life.ts'
import { randomOf } from '../../support/random.ts'
import type { Action, Answer, Asked } from './fleet-server.ts'

/** Machines and their images. */
export interface Fleet {
  /** The name of a machine. */
  machineOf: (index: number) => string
  usesDhcp: (index: number) => boolean
  /**
   * What a machine gets at one of its updates.
   *
   * @param blesses whether the system tells that it is up
   */
  candidateOf: (index: number, update: number, blesses: boolean) => Candidate
}

/** What the world is to its machines. */
export interface World {
  database: SiteDatabase
  fleet: Fleet
  /** Milliseconds since 1970. */
  now: () => number
  /** How often the server was killed. */
  kills: () => number
}

export type Wish = { until: number } | { ask: Asked['actions'][number] }
export interface Heard {
  answer: Answer
  /** How often the server had been killed before it answered. */
  kills: number
}
type Does<Result> = Generator<Wish, Result, Heard | undefined>

/**
 * What a machine does with an image:
 * - `good`: it comes up
 * - `crash`: it starts again before it is up
 * - `flaky`: as `crash`, until two attempts have failed
 * - `stops`: it does nothing more before it is up
 * - `waits`: it is never up, but uses its root
 * - `other`: it says that another system is up
 */
const behaviours = ['good', 'good', 'crash', 'flaky', 'stops', 'waits', 'other'] as const
type Behaviour = (typeof behaviours)[number]

interface Update {
  candidate: Candidate
  behaviour: Behaviour
  /** The last thing that the machine does before it crashes or stops. */
  last: Action
}

/** How the last boot of a machine ended. */
interface Boot {
  attempt: number
  /** `killed`: the machine started again because its server was killed. */
  end: 'started again' | 'killed' | 'decided'
  /** How often the server had been killed when it last answered this machine. */
  kills: number
}

export interface MachineSettings {
  world: World
  index: number
  updates: number
  seed: number
}

const second = 1000
const minute = 60 * second

export function* simulateMachine({ world, index, updates, seed }: MachineSettings): Does<void> {
  const { database, fleet, now } = world
  const machine = fleet.machineOf(index)
  const usesDhcp = fleet.usesDhcp(index)
  const random = randomOf(seed * 1000 + index)
  // Kills must not change what the images do.
  const plan = Array.from({ length: updates }, (_, update): Update => {
    const behaviour = behaviours[Math.floor(random() * behaviours.length)] ?? 'good'
    const last = random() < 0.5 ? 'initrd' : 'mount'
    const blesses = behaviour === 'other' || random() < 0.5
    return { candidate: fleet.candidateOf(index, update, blesses), behaviour, last }
  })
  const answered = new Map<number, string>()
  const booted = new Set<number>()
  let before: Boot | undefined
  const lifeOf = () => database.read.lifeOf(machine)

  function* sleep(milliseconds: number): Does<void> {
    // Machines meet at the same moments.
    yield { until: (Math.floor(now() / 5000) + 1) * 5000 + milliseconds }
  }
  const aBit = () => sleep(5 * second * Math.floor(random() * 3))

  /** A machine asks again until it is answered. */
  function* ask(action: Action): Does<Heard> {
    for (;;) {
      const heard = yield { ask: { machine, action } }
      if (heard) {
        answered.set(heard.answer.attempt, heard.answer.image)
        return heard
      }
      yield* sleep(0)
    }
  }

  /** @param between done when the machine has its kernel, but not its root */
  function* boot(between = () => {}): Does<Boot> {
    // Firmware takes its time. A machine without DHCP is only known by a long pause.
    yield* sleep((usesDhcp ? 10 : 70) * second)
    if (usesDhcp) {
      yield* ask('dhcp')
      yield* aBit()
    }
    const { answer: bound, kills: begun } = yield* ask('boot.ipxe')
    const { attempt, image } = bound
    if (before) assertCounted(lifeOf(), before, { attempt, kills: begun })
    assert.ok(!booted.has(attempt), `attempt ${attempt} of ${machine} has begun before`)
    const generation = lifeOf().generations.find((each) => each.image === image)
    assert.ok(generation, image)
    const { behaviour, last, candidate } =
      plan.find((each) => each.candidate.image === image) ?? assert.fail(image)
    let kills = begun
    const ends = (end: Boot['end']): Boot => {
      // An attempt goes on if the record of what the machine did was lost with the server.
      if (end !== 'killed') booted.add(attempt)
      return { attempt, end, kills }
    }

    /** @returns whether the machine goes on, although its server was killed meanwhile */
    function* does(action: Action): Does<boolean> {
      yield* aBit()
      if (kills !== world.kills() && random() < 0.3) return false
      const heard = yield* ask(action)
      kills = heard.kills
      // Loader, kernel, initrd and root are of one generation.
      assert.deepEqual(heard.answer, bound, `${JSON.stringify(action)} is of another attempt`)
      return true
    }

    const isUp =
      ['good', 'other'].includes(behaviour) || (behaviour === 'flaky' && generation.failures >= 2)
    for (const action of ['kernel', 'initrd', 'mount'] as const) {
      if (!(yield* does(action))) return ends('killed')
      if (action === 'kernel') between()
      if (isUp || action !== last) continue
      if (behaviour === 'crash' || behaviour === 'flaky') {
        yield* aBit()
        return ends('started again')
      }
      break
    }
    if (isUp) {
      if (!(yield* does('init'))) return ends('killed')
      if (candidate.blesses) {
        const toplevel = behaviour === 'other' ? '/nix/store/other' : generation.toplevel
        const bootId = `${machine} ${attempt}`
        if (!(yield* does({ bootId, toplevel }))) return ends('killed')
      }
    }
    const goesOn = isUp || (behaviour === 'waits' && last === 'mount')
    while (lifeOf().attempts.at(-1)?.outcome === 'running') {
      yield* sleep(30 * second)
      if (goesOn ? !(yield* does('alive')) : kills !== world.kills()) return ends('killed')
    }
    // The last one is of this attempt. A person switches a machine off that hangs.
    assert.equal(lifeOf().attempts.at(-1)?.number, attempt)
    return ends('decided')
  }

  for (const { candidate } of plan) {
    yield* sleep(random() * 5 * minute)
    let made: number | undefined
    const give = () => {
      made ??= database.change((writer) => {
        const assigned = assign(writer.of(machine), candidate, { at: now(), uptime: 0 }, 'person')
        if ('refused' in assigned) return assert.fail(`${candidate.image} is refused`)
        writer.keep(assigned.life)
        return assigned.generation.number
      })
      return made
    }
    // The machine is just booting what it had before.
    if (before) before = yield* boot(give)
    const number = give()
    const isDecided = () => generationOf(lifeOf(), number)?.verdict !== 'trial'
    while (!isDecided()) {
      before = yield* boot()
      // A verdict is final once no power cut can take it back.
      if (isDecided()) yield* sleep(2 * minute)
    }
    assertLists(lifeOf(), number, answered)
  }
}

/** The boot was counted once, if it counts. */
function assertCounted(
  life: Life,
  { attempt, end, kills }: Boot,
  next: Pick<Boot, 'attempt' | 'kills'>,
): void {
  const name = `attempt ${attempt} of ${life.machine}`
  const { outcome, reason = '' } = attemptOf(life, attempt)
  if (end === 'killed') {
    const isCounted = reason.startsWith('started again') && next.attempt !== attempt
    assert.ok(!isCounted, `${name}, cut off by a kill: ${outcome}, ${reason}`)
  } else if (kills === next.kills) {
    assert.equal(next.attempt, attempt + 1)
    const isExcused = outcome === 'void' && reason.startsWith('the power was cut')
    const isRight = outcome === 'failed' || isExcused || end === 'decided'
    assert.ok(isRight, `${name}: ${outcome}, ${reason}`)
  } else {
    assert.ok(next.attempt > attempt)
    assert.notEqual(outcome, 'running', name)
  }
}

function attemptOf({ attempts, machine }: Life, attempt: number): Attempt {
  const found = attempts.find(({ number }) => number === attempt)
  return found ?? assert.fail(`attempt ${attempt} of ${machine} is lost`)
}

/** No attempt is lost, and none is counted twice. */
function assertLists(life: Life, made: number, answered: ReadonlyMap<number, string>): void {
  const { attempts } = life
  const generation = generationOf(life, made)
  const tried = attempts.filter(({ generation }) => generation === made)
  const failed = tried.filter(({ reason = '' }) => reason.startsWith('started again'))
  assert.equal(generation?.failures, failed.length)
  assert.ok(failed.length <= 3)
  const oldest = attempts[0]?.number ?? 0
  for (const [index, { number }] of attempts.entries()) assert.equal(number, oldest + index)
  for (const [number, image] of answered) {
    if (number < oldest) continue
    assert.equal(generationOf(life, attemptOf(life, number).generation)?.image, image)
  }
}
