// One machine of a group: roll-outs give it images, and restart it.

import assert from 'node:assert/strict'
import { lastAttempt } from '../../../src/site/life/life.ts'
import type { Restart } from '../../../src/site/rollout/rollout.ts'
import { randomOf } from '../../support/random.ts'
import { createBoots, type Does, type OnMachine, type World } from './fleet-boot.ts'

export interface MemberSettings {
  world: World
  index: number
  seed: number
  does: (image: string) => OnMachine
  /** What was asked of machines, and has not been done yet. */
  restarts: Map<string, Restart>
  /** Whether commands restart it. Otherwise, a person does sooner or later. */
  hasCommands: boolean
  /** Whether it is switched off until later, once it is up. */
  isAway: () => boolean
  isOver: () => boolean
}

const minute = 60_000
/** A machine that boots something else next is restarted before that. */
const longest = 12 * 60 * minute

export function* simulateMember(settings: MemberSettings): Does<void> {
  const { world, index, seed, does, restarts, hasCommands, isAway, isOver } = settings
  const machine = world.fleet.machineOf(index)
  const random = randomOf(seed * 1000 + index)
  const { boot, sleep, useRoot, lifeOf, assertLists } = createBoots({ world, index, random, does })

  /** @param runs whether it does what a person asks it over the network */
  function* waitForRestart(runs: boolean): Does<void> {
    let dueFrom: number | undefined
    for (let minutes = 0; !isOver(); minutes++) {
      yield* sleep(minute)
      if (isAway()) {
        while (isAway()) yield* sleep(5 * minute)
        return
      }
      const asked = restarts.get(machine)
      restarts.delete(machine)
      if (asked === 'power' || (asked === 'reboot' && runs)) return
      const life = lifeOf()
      const isDue = lastAttempt(life)?.generation !== life.current
      if (isDue && !hasCommands && minutes % 10 === 9) return
      dueFrom = isDue ? (dueFrom ?? world.now()) : undefined
      const isLate = dueFrom !== undefined && world.now() - dueFrom >= longest
      assert.ok(!isLate, `nobody restarts ${machine}`)
      if (runs) yield* useRoot()
    }
  }

  while (!isOver()) {
    restarts.delete(machine)
    const { end, runs } = yield* boot()
    if (end === 'decided') yield* waitForRestart(runs)
  }
  for (const { number } of lifeOf().generations) assertLists(number)
}
