// Compares `netimage check` with real boots. Each system has one flaw: the check must name the
// rule, and the machine must stop as the manual of the rule describes.

import { after, before, suite, test } from 'node:test'
import {
  assertFails,
  assertIsUp,
  flaws,
  openFlawedSystems,
  withoutFlaws,
  type FlawedSystems,
} from './support/flaws.ts'

suite('predictions of check', { concurrency: 2 }, () => {
  let systems: FlawedSystems

  before(async () => {
    systems = await openFlawedSystems(Object.keys(flaws))
  })
  after(() => systems[Symbol.asyncDispose]())

  for (const rule of Object.keys(flaws)) {
    const stops = flaws[rule]?.shows ? ', and the machine really stops' : ''
    test(`${rule}: check names it${stops}`, () => assertFails(systems, rule))
  }

  test('no finding in a system without flaws, and the system boots', () =>
    assertIsUp(systems, withoutFlaws))
})
