// How a machine of a fleet boots: it checks what it is answered, and that each of its boots counts once.

import assert from 'node:assert/strict'
import type { SiteDatabase } from '../../../src/site/database.ts'
import {
  generationOf,
  type Attempt,
  type Candidate,
  type Life,
} from '../../../src/site/life/life.ts'
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
export type Does<Result> = Generator<Wish, Result, Heard | undefined>

/**
 * What a machine does with an image:
 * - `good`: it comes up
 * - `crash`: it starts again before it is up
 * - `flaky`: as `crash`, until two attempts have failed
 * - `stops`: it does nothing more before it is up
 * - `waits`: it is never up, but uses its root
 * - `other`: it says that another system is up
 */
export const behaviours = ['good', 'good', 'crash', 'flaky', 'stops', 'waits', 'other'] as const
export type Behaviour = (typeof behaviours)[number]

/** What an image does on one machine. */
export interface OnMachine {
  behaviour: Behaviour
  /** The last thing that the machine does before it crashes or stops. */
  last: Action
  blesses: boolean
}

/** How the last boot of a machine ended. */
export interface Boot {
  attempt: number
  /** `killed`: the machine started again because its server was killed. */
  end: 'started again' | 'killed' | 'decided'
  /** How often the server had been killed when it last answered this machine. */
  kills: number
  /** Whether it uses its root at the end. */
  runs: boolean
}

const second = 1000

export interface BootsSettings {
  world: World
  index: number
  random: () => number
  does: (image: string) => OnMachine
}

/** The boots of one machine. */
export function createBoots({ world, index, random, does: doesImage }: BootsSettings) {
  const { database, fleet, now } = world
  const machine = fleet.machineOf(index)
  const usesDhcp = fleet.usesDhcp(index)
  const answered = new Map<number, string>()
  const booted = new Set<number>()
  let before: Boot | undefined
  /** What its last boot was answered. */
  let bound: Answer | undefined
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

  /** @returns how often the server had been killed when it answered */
  function* askBound(action: Action): Does<number> {
    const { answer, kills } = yield* ask(action)
    // Loader, kernel, initrd and root are of one generation.
    assert.deepEqual(answer, bound, `${JSON.stringify(action)} is of another attempt`)
    return kills
  }

  function* bootOnce(between: () => void): Does<Boot> {
    // Firmware takes its time. A machine without DHCP is only known by a long pause.
    yield* sleep((usesDhcp ? 10 : 70) * second)
    if (usesDhcp) {
      yield* ask('dhcp')
      yield* aBit()
    }
    const { answer, kills: begun } = yield* ask('boot.ipxe')
    bound = answer
    const { attempt, image } = answer
    if (before) assertCounted(lifeOf(), before, { attempt, kills: begun })
    assert.ok(!booted.has(attempt), `attempt ${attempt} of ${machine} has begun before`)
    const generation = lifeOf().generations.find((each) => each.image === image)
    assert.ok(generation, image)
    const { behaviour, last, blesses } = doesImage(image)
    let kills = begun
    const ends = (end: Boot['end'], runs = false): Boot => {
      // An attempt goes on if the record of what the machine did was lost with the server.
      if (end !== 'killed') booted.add(attempt)
      return { attempt, end, kills, runs }
    }

    /** @returns whether the machine goes on, although its server was killed meanwhile */
    function* does(action: Action): Does<boolean> {
      yield* aBit()
      if (kills !== world.kills() && random() < 0.3) return false
      kills = yield* askBound(action)
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
      if (blesses) {
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
    return ends('decided', goesOn)
  }

  /** @param between done when the machine has its kernel, but not its root */
  function* boot(between = () => {}): Does<Boot> {
    return (before = yield* bootOnce(between))
  }

  /** The machine is up, and reads a file of its store. */
  function* useRoot(): Does<void> {
    yield* askBound('init')
  }

  return {
    ...{ boot, useRoot, sleep, lifeOf },
    hasBooted: () => before !== undefined,
    /** No attempt is lost, and none is counted twice. */
    assertLists: (made: number) => assertLists(lifeOf(), made, answered),
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
