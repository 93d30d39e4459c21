// The server is killed again and again in a roll-out. It ends as one in which nobody kills the server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { openSiteDatabase, openSiteToRead } from '../../../src/site/database.ts'
import { generationOf } from '../../../src/site/life/life.ts'
import { beginRollout, stepRollouts } from '../../../src/site/rollout/rollouts.ts'
import type { SiteWriter } from '../../../src/site/statements.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assignAllowed, candidate, minutes } from '../life/support/simulate.ts'
import { group, rebooted, settings, simulateGroup, tickMs, withPower } from './support/simulate.ts'

const freshName = freshNames(temporaryDirectory())
const mostMachines = 20

interface Plan {
  count: number
  firstWave: number
  isFirstBad: boolean
  /** Machines of later waves on which the image is bad, too few to halt. */
  bad: number[]
  away: number[]
  maxUnavailable: number
}

const index = fc.nat({ max: mostMachines - 1 })
const plans: fc.Arbitrary<Plan> = fc.record({
  count: fc.integer({ min: 3, max: mostMachines }),
  firstWave: fc.integer({ min: 1, max: 3 }),
  isFirstBad: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, fc.constant(true)),
  bad: fc.array(index, { maxLength: 2 }),
  away: fc.array(index, { maxLength: 2 }),
  maxUnavailable: fc.integer({ min: 1, max: 4 }),
})

/**
 * What a kill takes with it: all that a step did, or the commands that were due, or what they do, or only
 * that they have ended.
 */
type Kill = 'step' | 'due' | 'begun' | 'done' | undefined
const kills = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 2, arbitrary: fc.constantFrom<Kill[]>('step', 'due', 'begun', 'done') },
  ),
  { maxLength: 60 },
)

function endOf(plan: Plan, killed: readonly Kill[]) {
  const { count, firstWave, isFirstBad, bad, away, maxUnavailable } = plan
  const names = Array.from({ length: count }, (_, at) => `pi${at + 1}`)
  const simulated = simulateGroup(names)
  names.forEach((name, at) => {
    const one = simulated.machine(name)
    const isFirst = at < firstWave
    if (isFirst ? isFirstBad : bad.includes(at)) one.behaviour = at % 2 === 0 ? 'hangs' : 'crashes'
    if (!isFirst && away.includes(at)) one.phase = 'off'
  })
  simulated.wait(3 * minutes)

  const { step } = simulated
  const left = [...killed]
  simulated.step = () => {
    const kill = left.shift()
    const restarts = kill === 'step' ? [] : step()
    if (!kill) return restarts
    for (const due of restarts) {
      const hasBegun = kill !== 'due' && simulated.beginsCommand(due)
      if (hasBegun && kill === 'done') simulated.reaches(due)
    }
    simulated.serverRestarts()
    return []
  }
  const waves = [names.slice(0, firstWave), names.slice(firstWave)]
  const restart = new Map(names.map((name) => [name, withPower]))
  simulated.begin(settings(waves, { maxUnavailable, halt: 3 }), restart)
  for (let ticks = 0; ticks < 60 || left.length > 0; ticks++) simulated.wait(tickMs)
  simulated.wait(count * 30 * minutes)
  const { state, wave } = simulated.rollout
  const next = names.map((name) => {
    const life = simulated.site.of(name)
    return generationOf(life, life.current)?.image
  })
  return { state, wave, next, phases: names.map((name) => simulated.machine(name).phase) }
}

test('a roll-out in which the server is killed ends as one in which it is not', () => {
  fc.assert(
    fc.property(plans, kills, (plan, killed) => {
      assert.deepEqual(endOf(plan, killed), endOf(plan, []))
    }),
    { numRuns: 100 },
  )
})

class Killed extends Error {}

/** @param writes how often it writes until it is killed */
function killedAfter(writer: SiteWriter, writes: number): SiteWriter {
  let left = writes
  const counts =
    <A extends unknown[]>(write: (...args: A) => void) =>
    (...args: A) => {
      if (left-- === 0) throw new Killed()
      write(...args)
    }
  return {
    ...writer,
    keep: counts((life) => writer.keep(life)),
    rollouts: { ...writer.rollouts, keep: counts((rollout) => writer.rollouts.keep(rollout)) },
  }
}

test('a step that is killed between any two writes has done nothing, and the next one does all', () => {
  const state = freshName()
  const names = ['pi1', 'pi2', 'pi3']
  const site = openSiteDatabase(state)
  const now = { at: 1_700_000_000_000, uptime: 0 }
  site.change((writer) => {
    writer.rollouts.setGroups(new Map(names.map((name) => [name, group])))
    for (const name of names) {
      writer.keep(assignAllowed(writer.of(name), candidate('old'), now, 'person').life)
    }
    beginRollout(writer, settings([names]), new Map([['pi1', rebooted]]), now)
  })
  const read = () => {
    const reader = openSiteToRead(state)
    const lives = reader?.lives(assert.fail).map(({ generations }) => generations.at(-1)?.image)
    const members = reader?.rollouts().newest.map(({ machines }) => machines)
    reader?.close()
    return { lives, members }
  }
  const before = read()
  let writes = 0
  const dies = () =>
    site.change((writer) => stepRollouts(killedAfter(writer, writes), now, assert.ifError))
  for (; writes < 4; writes++) {
    assert.throws(dies, Killed)
    assert.deepEqual(read(), before)
  }
  dies()
  const after = read()
  assert.deepEqual(after.lives, ['new', 'new', 'new'])
  assert.deepEqual(after.members?.[0]?.['pi1'], {
    restart: rebooted,
    given: { generation: 2, from: 0, before: { current: 1, isChosen: true } },
  })
  dies()
  assert.deepEqual(read(), after)
  site.close()
})
