// Signs that wait lead to the same life as signs that are seen one by one.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bootSteps } from '../../src/boots/step.ts'
import { becomeUnseen, see, tick, type Sign } from '../../src/site/life/attempts.ts'
import { bind } from '../../src/site/life/begin.ts'
import { defaultPolicy, newLife, type Life } from '../../src/site/life/life.ts'
import { createWaitingSigns } from '../../src/site/waiting-signs.ts'
import { candidate } from './life/support/simulate.ts'

const machine = 'dc:a6:32:01:02:03'
const toplevels = [candidate('a').toplevel, '/nix/store/other']

const signs: fc.Arbitrary<Sign> = fc.oneof(
  fc.constant<Sign>({ kind: 'alive' }),
  fc.constantFrom(...bootSteps).map((step): Sign => ({ kind: 'step', step })),
  fc.constantFrom('x', 'y').map((trouble): Sign => ({ kind: 'trouble', trouble })),
  fc.constantFrom(...toplevels).map((toplevel): Sign => ({ kind: 'profile', toplevel })),
  fc
    .tuple(fc.constantFrom('1', '2', '3'), fc.constantFrom(...toplevels))
    .map(([bootId, toplevel]): Sign => ({ kind: 'bless', bootId, toplevel })),
)

const lives: fc.Arbitrary<Life> = fc
  .record({ blesses: fc.boolean(), isUnseen: fc.boolean(), isLate: fc.boolean() })
  .map(({ blesses, isUnseen, isLate }) => {
    const start = { at: 0, uptime: 0 }
    const { life } = bind(newLife(machine), start, defaultPolicy, {
      byDefault: candidate('a', { blesses }),
    })
    const late = { at: 0, uptime: defaultPolicy.deadline }
    if (isLate) return tick(life, late, defaultPolicy).life
    return isUnseen ? becomeUnseen(life, start) : life
  })

test('signs of a machine that wait lead to the same life as when they are seen one by one', () => {
  const waits = fc.array(fc.tuple(signs, fc.nat(1000)), { maxLength: 40 })
  fc.assert(
    fc.property(lives, waits, (life, seen) => {
      const waiting = createWaitingSigns()
      let [uptime, expected] = [1_000_000, life]
      for (const [sign, wait] of seen) {
        uptime += wait
        const now = { at: uptime, uptime }
        waiting.add(machine, sign, now)
        expected = see(expected, sign, now).life
      }
      assert.deepEqual(waiting.applyTo(life).life, expected)
    }),
  )
})

test('a machine that says something new without end has a limited number of signs that wait', () => {
  const waiting = createWaitingSigns()
  const { life } = bind(newLife(machine), { at: 0, uptime: 0 }, defaultPolicy, {
    byDefault: candidate('a'),
  })
  const add = (sign: Sign, uptime: number) => waiting.add(machine, sign, { at: uptime, uptime })
  add({ kind: 'step', step: 'mount' }, 1)
  for (let uptime = 2; uptime < 1000; uptime++) {
    add({ kind: 'bless', bootId: `${uptime}`, toplevel: '/nix/store/other' }, uptime)
  }
  add({ kind: 'trouble', trouble: 'last' }, 1000)
  const [attempt] = waiting.applyTo(life).life.attempts
  // The oldest is dropped.
  assert.deepEqual([attempt?.step, attempt?.trouble], [undefined, 'last'])
  waiting.written(machine)
  assert.deepEqual(waiting.applyTo(life), { life, told: [] })
})

test('a machine that waits again and again for the server loses no other sign', () => {
  const waiting = createWaitingSigns()
  const { life } = bind(newLife(machine), { at: 0, uptime: 0 }, defaultPolicy, {
    byDefault: candidate('a'),
  })
  const add = (sign: Sign, uptime: number) => waiting.add(machine, sign, { at: uptime, uptime })
  add({ kind: 'asks' }, 1000)
  for (let uptime = 2000; uptime < 100_000; uptime += 1000) {
    add({ kind: 'waits' }, uptime)
    add({ kind: 'waited' }, uptime + 400)
  }
  const seen = waiting.applyTo(life).life
  // It waited from 2000 to 99,400.
  assert.deepEqual([seen.attempts[0]?.from, seen.waitsFrom], [98_400, undefined])
  assert.equal(seen.attempts[0]?.hasAsked, true)
  add({ kind: 'waits' }, 100_000)
  assert.equal(waiting.applyTo(life).life.waitsFrom, 2000)
})
