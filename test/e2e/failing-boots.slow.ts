// What `netimage check` foretells, on machines that really boot: each system is broken in one way,
// the check names the rule, and the machine stops where the manual says that it stops.

import { after, before, suite, test } from 'node:test'
import {
  assertFails,
  assertIsUp,
  flaws,
  openFlawedSystems,
  withoutFlaws,
  type FlawedSystems,
} from './support/flaws.ts'

suite('what check foretells', { concurrency: 2 }, () => {
  let systems: FlawedSystems

  before(async () => {
    systems = await openFlawedSystems(Object.keys(flaws))
  })
  after(() => systems[Symbol.asyncDispose]())

  for (const rule of Object.keys(flaws)) {
    test(`${rule}: it is named, and the machine does stop there`, () => assertFails(systems, rule))
  }

  for (const kind of ['uml', 'qemu'] as const) {
    test(`nothing is found in a system without flaws, and it is up on ${kind}`, () =>
      assertIsUp(systems, withoutFlaws, kind))
  }
})
