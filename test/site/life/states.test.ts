// The rules of the states of a machine from before its trials, as docs/site.md tells them.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { decide, rollback } from '../../../src/site/life/choose.ts'
import { lastAttempt, type Life } from '../../../src/site/life/life.ts'
import {
  dueState,
  isBack,
  keptStates,
  triedAfter,
  trialOf,
  wishState,
} from '../../../src/site/life/states.ts'
import { minutes, simulate } from './support/simulate.ts'

type Simulated = ReturnType<typeof simulate>

/** @returns a machine with a good generation for each image */
function withGood(...images: string[]): Simulated {
  const machine = simulate()
  for (const image of images) {
    machine.assign(image)
    machine.comesUp()
  }
  return machine
}

function failsTrial(machine: Simulated, image: string): void {
  machine.assign(image)
  machine.begin()
  machine.wait(10 * minutes)
}

/** As `site rollback --to TO`, and with `--with-state` if there is a generation `before`. */
function goBack(machine: Simulated, to: number, before?: number): void {
  machine.apply((life) => {
    const back = rollback(life, to)
    assert.ok(typeof back === 'object')
    const next = before === undefined ? back.life : wishState(back.life, { to, before })
    return { life: next, told: [] }
  })
}

const before = (life: Life, to: number) => triedAfter(life, to)?.number
const kept = (life: Life, ...taken: number[]) => [...keptStates(life, taken)]

suite('the state from before a trial', () => {
  test('belongs to the first attempt of the trial, also if a later attempt runs', () => {
    const machine = withGood('a')
    machine.assign('b')
    machine.begin()
    assert.deepEqual(trialOf(machine.life), { generation: 2, attempt: 2 })
    machine.begin()
    assert.equal(lastAttempt(machine.life)?.number, 3)
    assert.deepEqual(trialOf(machine.life), { generation: 2, attempt: 2 })
    machine.bless()
    machine.wait(2 * minutes)
    assert.equal(trialOf(machine.life), undefined)
  })

  test('is the state in which the machine last left the generation', () => {
    const machine = withGood('a', 'b', 'c')
    assert.equal(before(machine.life, 1), 2)
    assert.equal(before(machine.life, 2), 3)
    assert.equal(before(machine.life, 3), undefined)
    goBack(machine, 1)
    machine.comesUp()
    assert.equal(before(machine.life, 1), 2)
    failsTrial(machine, 'd')
    assert.equal(machine.begin(), 1)
    // Generation 4 was bad, and the machine is back already.
    assert.equal(before(machine.life, 1), 4)
    machine.bless()
    machine.wait(2 * minutes)
    machine.assign('e')
    // It was not tried yet.
    assert.equal(before(machine.life, 1), 4)
    machine.begin()
    assert.equal(before(machine.life, 1), 5)
  })

  test('belongs to no trial for which the machine only asked DHCP', () => {
    const machine = withGood('a')
    failsTrial(machine, 'b')
    machine.comesUp()
    machine.assign('c')
    // The machine goes on and boots from its own disk.
    machine.asksDhcp()
    assert.equal(before(machine.life, 1), 2)
    machine.assign('d')
    machine.begin()
    assert.equal(before(machine.life, 1), 4)
    machine.wait(10 * minutes)
    machine.begin()
    assert.deepEqual(kept(machine.life, 2, 4), [4])
  })

  test('belongs to the attempt in which the trial is booted, also if the machine asked DHCP before', () => {
    const machine = withGood('a')
    machine.assign('b')
    machine.asksDhcp()
    machine.begin()
    assert.deepEqual(trialOf(machine.life), { generation: 2, attempt: 3 })
    assert.equal(before(machine.life, 1), 2)
  })

  test('is kept for each generation that the machine keeps, and for what it boots', () => {
    const machine = withGood('a', 'b', 'c', 'd', 'e', 'f')
    assert.deepEqual(kept(machine.life, 2, 3, 4, 5, 6, 99), [4, 5, 6])
    machine.assign('g')
    machine.begin()
    assert.deepEqual(kept(machine.life, 4, 5, 6, 7), [4, 5, 6, 7])
    failsTrial(machine, 'h')
    machine.begin()
    // The machine left the last good generation 6 for 7, which was given up for 8.
    assert.deepEqual(kept(machine.life, 7, 8), [7])
    // If there is no snapshot from before the newest one, an older one stays.
    failsTrial(machine, 'i')
    machine.begin()
    assert.deepEqual(kept(machine.life, 7, 9), [9])
    assert.deepEqual(kept(machine.life, 7), [7])
  })

  test('comes back at the next attempt to boot the generation, and not in the present one', () => {
    const machine = withGood('a', 'b')
    goBack(machine, 1, 2)
    assert.equal(dueState(machine.life), undefined)
    machine.begin()
    const due = dueState(machine.life)
    assert.deepEqual(due, { to: 1, before: 2, after: 2 })
    // The attempt was cut off before the layer was opened.
    machine.begin()
    assert.deepEqual(dueState(machine.life), due)
    machine.apply((life) => isBack(life, due ?? assert.fail(), ''))
    assert.equal(dueState(machine.life), undefined)
    machine.begin()
    assert.equal(dueState(machine.life), undefined)
  })

  test('does not come back while the machine runs in the generation to which it goes back', () => {
    const machine = withGood('a')
    failsTrial(machine, 'b')
    assert.equal(machine.begin(), 1)
    goBack(machine, 1, 2)
    assert.equal(dueState(machine.life), undefined)
    machine.begin()
    assert.deepEqual(dueState(machine.life), { to: 1, before: 2, after: 3 })
  })

  test('does not come back if a person chose something else meanwhile', () => {
    const others: ((machine: Simulated) => void)[] = [
      (machine) => goBack(machine, 1),
      (machine) => goBack(machine, 2),
      (machine) => machine.assign('c'),
      (machine) => machine.apply((life) => decide(life, 1, 'bad') ?? assert.fail()),
    ]
    for (const other of others) {
      const machine = withGood('a', 'b')
      goBack(machine, 1, 2)
      other(machine)
      machine.begin()
      assert.equal(dueState(machine.life), undefined)
      // Nor later.
      machine.apply((life) => decide(life, 1, 'good') ?? assert.fail())
      goBack(machine, 1)
      machine.begin()
      assert.equal(dueState(machine.life), undefined)
    }
  })
})
