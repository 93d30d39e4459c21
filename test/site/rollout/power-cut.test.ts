// The power of a whole site is cut in the middle of a roll-out.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { minutes } from '../life/support/simulate.ts'
import { rebooted, settings, simulateGroup, tickMs } from './support/simulate.ts'

const names = Array.from({ length: 500 }, (_, index) => `pi${index + 1}`)

/** The power is cut when 100 machines of the second wave are good, and the next 50 of it boot. */
function cutPower(whileTheyStart: (started: number, step: () => unknown) => void) {
  const simulated = simulateGroup(names)
  const waves = [names.slice(0, 1), names.slice(1, 151), names.slice(151)]
  const commands = new Map(names.map((name) => [name, rebooted]))
  // One failed attempt makes the image bad.
  const health = { deadline: 10 * minutes, tries: 1, settle: 1 * minutes, tcp: [] }
  simulated.begin(settings(waves, { maxUnavailable: 100, halt: 2, health }), commands)
  const those = (stand: string) => {
    const stands = simulated.stands()
    return names.filter((name) => stands[name] === stand)
  }
  while (those('good').length < 100) simulated.wait(tickMs)
  const good = those('good')
  assert.deepEqual([simulated.rollout.wave, good.length, those('booting').length], [1, 101, 50])

  for (const [started, name] of names.entries()) {
    whileTheyStart(started, simulated.step)
    simulated.starts(name)
  }
  assert.deepEqual([those('good'), those('bad')], [good, []])
  for (const name of good) assert.equal(simulated.imageOf(name), 'new')
  const told = simulated.told.length
  simulated.wait(30 * minutes)
  assert.deepEqual([simulated.rollout.state, those('good').length], ['done', 500])
  return { before: simulated.told.slice(0, told), after: simulated.told.slice(told) }
}

const isHalt = (says: string) => says.startsWith('halts')
const goesOn = (says: string) => says.startsWith('goes on: a power cut')

suite('500 machines that lose their power in the second wave keep their verdicts', () => {
  test('and the roll-out goes on', () => {
    const { before, after } = cutPower(() => {})
    assert.deepEqual([...before, ...after].filter(isHalt), [])
  })

  test('and the roll-out goes on if it halted before the server could know of the power cut', () => {
    const { before, after } = cutPower((started, step) => {
      if (started === 200) step()
    })
    assert.equal(before.filter(isHalt).length, 1)
    assert.equal(after.filter(goesOn).length, 1)
    assert.deepEqual(after.filter(isHalt), [])
  })
})
