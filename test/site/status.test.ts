// What a person is told of a machine.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { statusOf } from '../../src/site/status.ts'
import { assignAllowed, candidate, minutes, simulate } from './life/support/simulate.ts'

test('a machine that hangs is an alarm when it has had the time to start again by itself', () => {
  const machine = simulate()
  machine.assign('a')
  machine.comesUp()
  machine.assign('b')
  machine.begin()
  const alarms = () => statusOf(machine.life, undefined, machine.now.uptime).alarms
  machine.wait(10 * minutes)
  assert.equal(machine.verdict(2), 'bad')
  assert.deepEqual(alarms(), [])
  machine.wait(10 * minutes)
  assert.match(alarms().join('\n'), /^it has not come up .* switch its power .* generation 1$/)
  machine.begin()
  assert.deepEqual(alarms(), [])
})

test('a machine that came up too late runs, and nobody is to switch its power', () => {
  const machine = simulate()
  machine.assign('a')
  machine.begin()
  machine.wait(11 * minutes)
  assert.equal(machine.verdict(1), 'bad')
  machine.bless()
  machine.wait(20 * minutes)
  const { alarms, last } = statusOf(machine.life, undefined, machine.now.uptime)
  assert.deepEqual(alarms, [])
  assert.equal(last?.says, 'failed: it came up too late, and runs')
})

test('a machine that waits for the server is told as such', () => {
  const machine = simulate()
  machine.assign('a')
  machine.begin()
  machine.see({ kind: 'waits' })
  const says = () => statusOf(machine.life, undefined, machine.now.uptime).last?.says
  assert.equal(says(), 'waits until the server has prepared its root')
  machine.see({ kind: 'waited' })
  assert.equal(says(), 'has begun to boot')
})

test('a profile that names a specialisation of a generation is no alarm', () => {
  const machine = simulate()
  const specialisation = '/nix/store/a-gaming'
  machine.apply((life) =>
    assignAllowed(
      life,
      candidate('a', { specialisations: [specialisation] }),
      machine.now,
      'person',
    ),
  )
  machine.begin()
  const alarms = () => statusOf(machine.life, undefined, machine.now.uptime).alarms
  machine.see({ kind: 'profile', toplevel: specialisation })
  assert.deepEqual(alarms(), [])
  machine.see({ kind: 'profile', toplevel: '/nix/store/other' })
  assert.match(alarms().join(), /its profile is \/nix\/store\/other, which it has not published/)
})

test('the status tells each reason once, and without colons in a row', () => {
  const machine = simulate()
  machine.assign('a')
  machine.comesUp()
  machine.assign('b')
  for (let attempt = 0; attempt < 4; attempt++) {
    machine.begin()
    machine.see({ kind: 'step', step: 'mount' })
  }
  const { why, last } = statusOf(machine.life, 'pi1', machine.now.uptime)
  assert.equal(
    why,
    'generation 2 is bad: it started again 3 times, the last time before the machine reads its init',
  )
  assert.equal(last?.says, 'booting, last step mount')
})
