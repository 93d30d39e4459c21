// One machine of a fleet: a person gives it updates, and it boots them.

import assert from 'node:assert/strict'
import { assign } from '../../../src/site/life/choose.ts'
import { generationOf, type Candidate } from '../../../src/site/life/life.ts'
import { randomOf } from '../../support/random.ts'
import { behaviours, createBoots, type Does, type OnMachine, type World } from './fleet-boot.ts'

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
  const random = randomOf(seed * 1000 + index)
  // Kills must not change what the images do.
  const plan = Array.from(
    { length: updates },
    (_, update): OnMachine & { candidate: Candidate } => {
      const behaviour = behaviours[Math.floor(random() * behaviours.length)] ?? 'good'
      const last = random() < 0.5 ? 'initrd' : 'mount'
      const blesses = behaviour === 'other' || random() < 0.5
      return { candidate: fleet.candidateOf(index, update, blesses), behaviour, last, blesses }
    },
  )
  const does = (image: string) =>
    plan.find((each) => each.candidate.image === image) ?? assert.fail(image)
  const { boot, hasBooted, sleep, lifeOf, assertLists } = createBoots({
    ...{ world, index, random, does },
  })

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
    if (hasBooted()) yield* boot(give)
    const number = give()
    const isDecided = () => generationOf(lifeOf(), number)?.verdict !== 'trial'
    while (!isDecided()) {
      yield* boot()
      // A verdict is final once no power cut can take it back.
      if (isDecided()) yield* sleep(2 * minute)
    }
    assertLists(number)
  }
}
