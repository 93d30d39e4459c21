// Roll-outs of images to machines of a group, one after the other, with a clock of their own. Their server
// is killed at random steps of its work.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { generationOf, lastAttempt } from '../../../src/site/life/life.ts'
import { beginRollout } from '../../../src/site/rollout/rollouts.ts'
import { assignAllowed } from '../../site/life/support/simulate.ts'
import { group, settings as rolloutSettings } from '../../site/rollout/support/simulate.ts'
import { randomOf } from '../../support/random.ts'
import type { Behaviour, Does, OnMachine, World } from './fleet-boot.ts'
import type { MarkedImage } from './fleet-images.ts'
import { simulateMember } from './fleet-member.ts'
import { runFleet } from './fleet.ts'
import { restartCommands } from './restart-command.ts'
import { createServedFleet, type ServedFleet } from './served-fleet.ts'

export interface RolloutsSettings {
  state: string
  /** A state directory that has the images; it is copied. */
  prepared: string
  images: readonly MarkedImage[]
  machines: number
  seed: number
  /** What all machines run before; it is good. */
  old: MarkedImage
  plans: readonly Plan[]
  /** The machines of each wave, by their indexes. */
  waves: readonly (readonly number[])[]
  /** How many further good generations each machine keeps. */
  keep?: number
  /** The last machine is off during so many roll-outs, if their canaries are good. Default: one. */
  misses?: number
  /** Default: four. */
  maxUnavailable?: number
  /** Default: all but each fifth. */
  hasCommands?: (index: number) => boolean
  /** Runs to its end before the first roll-out, while all use their roots. */
  beforeAll?: (fleet: ServedFleet) => Promise<void>
  /** Runs to its end before the machine comes that was off, while all others use their roots. */
  beforeReturn?: (fleet: ServedFleet) => Promise<void>
  /** One round of questions in this many makes the server kill itself soon. Undefined: none. */
  killOneIn?: number
  /** How many processes serve the machines. */
  workers: number
}

/** What one roll-out meets. */
export interface Plan {
  image: MarkedImage
  /** The roll-out halts, because the image is bad on the only machine of the first wave. */
  isCanaryBad: boolean
  /** By the indexes of the machines; on all others, the image comes up. */
  does: ReadonlyMap<number, OnMachine>
}

const [second, minute] = [1000, 60_000]
/** More than any of these takes, by the clock of the fleet. */
const longest = 7 * 24 * 60 * minute
const bad: readonly Behaviour[] = ['crash', 'stops', 'waits', 'other']

export function comesUp({ blesses }: MarkedImage): OnMachine {
  return { behaviour: 'good', last: 'mount', blesses }
}

/** A canary, five further machines, and the rest. */
export function fleetWaves(machines: number): number[][] {
  const all = Array.from({ length: machines }, (_, index) => index)
  return [all.slice(0, 1), all.slice(1, 6), all.slice(6)]
}

/** The image is bad on the canary, or on two of the last machines: too few to halt. */
export function randomPlans(
  images: readonly MarkedImage[],
  machines: number,
  seed: number,
): Plan[] {
  const random = randomOf(seed)
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)] ?? assert.fail()
  return images.map((image) => {
    const isCanaryBad = random() < 0.3
    const badOnes = isCanaryBad ? [0] : [machines - 2, machines - 3]
    const usable = bad.filter((each) => each !== 'other' || image.blesses)
    const does = Array.from({ length: machines }, (_, index): [number, OnMachine] => {
      const behaviour = badOnes.includes(index)
        ? pick(usable)
        : pick<Behaviour>(['good', 'good', 'flaky'])
      const last = pick(['initrd', 'mount'] as const)
      return [index, { behaviour, last, blesses: image.blesses }]
    })
    return { image, isCanaryBad, does: new Map(does) }
  })
}

/** @returns how often the server was killed, and how roll-outs and machines ended */
export async function rollOutToFleet(request: RolloutsSettings) {
  const { state, prepared, images, machines, seed, old, plans, killOneIn, workers } = request
  const { keep = 3, misses = 1, maxUnavailable = 4, beforeAll, beforeReturn } = request
  const { hasCommands = (index) => index % 5 !== 4 } = request
  execFileSync('cp', ['-a', prepared, state])
  const fleet = await createServedFleet(state, images, workers)
  const names = Array.from({ length: machines }, (_, index) => fleet.machineOf(index))
  const nameAt = (index: number) => names[index] ?? assert.fail()
  const waves = request.waves.map((wave) => wave.map(nameAt))
  const doesOn = (index: number) => (id: string) => {
    const image = images.find((each) => each.image === id) ?? assert.fail(id)
    return plans.find((plan) => plan.image === image)?.does.get(index) ?? comesUp(image)
  }
  const away = machines - 1
  let [isAway, isOver] = [false, false]
  const rollouts: string[] = []

  function* person(world: World): Does<void> {
    const { database } = world
    const until = world.now() + longest
    const sleep = function* (): Does<void> {
      assert.ok(world.now() < until, `it does not end: ${JSON.stringify(database.read.rollouts())}`)
      yield { until: (Math.floor(world.now() / minute) + 1) * minute + 7 * second }
    }
    /** @throws what the work throws */
    function* whileOthersRun(work: (fleet: ServedFleet) => Promise<void>): Does<void> {
      let [isDone, error]: [boolean, unknown] = [false, undefined]
      void work(fleet)
        .catch((reason: unknown) => (error = reason))
        .finally(() => (isDone = true))
      while (!isDone) yield* sleep()
      assert.ifError(error)
    }

    /** Each machine runs what it boots next, and is good there. */
    const isSettled = (all = names) =>
      all.every((name) => {
        const life = database.read.lifeOf(name)
        const attempt = lastAttempt(life)
        const verdict = generationOf(life, life.current)?.verdict
        return (
          verdict === 'good' && attempt?.generation === life.current && attempt?.outcome === 'good'
        )
      })
    const newest = () => database.read.rollouts().newest[0] ?? assert.fail()

    while (!isSettled()) yield* sleep()
    if (beforeAll) yield* whileOthersRun(beforeAll)
    for (const [number, { image, isCanaryBad }] of plans.entries()) {
      isAway = number < misses && !isCanaryBad
      if (isAway && number === 0) for (let minutes = 0; minutes < 5; minutes++) yield* sleep()
      const wanted = rolloutSettings(waves, {
        ...{ candidate: image, maxUnavailable, halt: 3, keep },
      })
      database.change((writer) => {
        const now = { at: world.now(), uptime: writer.uptime() }
        beginRollout(writer, wanted, commands, now)
      })
      const isEnded = () => ['done', 'halted'].includes(newest().state)
      const here = isAway ? names.slice(0, away) : names
      while (!isEnded() || !isSettled(here)) yield* sleep()
      assert.equal(newest().state, isCanaryBad ? 'halted' : 'done')
      rollouts.push(`${newest().number} ${newest().state} in wave ${newest().wave}`)
      if (number + 1 < misses) continue
      if (beforeReturn) yield* whileOthersRun(beforeReturn)
      isAway = false
      while (!isSettled()) yield* sleep()
    }
    isOver = true
  }

  const commands = new Map(
    names.flatMap((name, at) => (hasCommands(at) ? [[name, restartCommands(name)]] : [])),
  )

  const livesIn = (world: World) => {
    world.database.change((writer) => {
      writer.rollouts.setGroups(new Map(waves.flat().map((name) => [name, group])))
      for (const name of names) {
        const now = { at: world.now(), uptime: writer.uptime() }
        const { life } = assignAllowed(writer.of(name), old, now, 'person')
        writer.keep(life)
      }
    })
    const members = Array.from({ length: machines }, (_, index) =>
      simulateMember({
        ...{ world, index, seed, does: doesOn(index), restarts: fleet.restarts },
        hasCommands: hasCommands(index),
        isAway: () => isAway && index === away,
        isOver: () => isOver,
      }),
    )
    return [person(world), ...members]
  }
  const killing = killOneIn === undefined ? {} : { killOneIn }
  const ended = await runFleet({ state, seed, fleet, ...killing }, livesIn)
  return { ...ended, rollouts }
}
