// What a person is told of a roll-out.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decide } from '../../../src/site/life/choose.ts'
import { rolloutStatus } from '../../../src/site/rollout/status.ts'
import { whatNext } from '../../../src/site/rollout/what-next.ts'
import { minutes } from '../life/support/simulate.ts'
import { rebooted, settings, simulateGroup } from './support/simulate.ts'

function stuckIn({ site, rollout, writer }: ReturnType<typeof simulateGroup>) {
  return rolloutStatus(site.of, writer.rollouts.read(), rollout, site.now.uptime, new Map()).stuck
}

test('a machine that stays in the bad image is told to a person if no command restarts it', () => {
  const names = ['pi1', 'pi2', 'pi3', 'pi4']
  const simulated = simulateGroup(names)
  for (const name of ['pi1', 'pi2', 'pi3']) simulated.machine(name).behaviour = 'hangs'
  simulated.machine('pi4').behaviour = 'crashes'
  const commands = new Map([
    ['pi2', rebooted],
    ['pi3', { power: ['power'] }],
  ])
  simulated.begin(settings([names], { maxUnavailable: 4 }), commands)
  const stuck = () => stuckIn(simulated)
  simulated.starts('pi1')
  simulated.starts('pi4')
  assert.deepEqual(stuck(), [])
  simulated.wait(11 * minutes)
  assert.deepEqual(stuck(), ['pi1'])
  simulated.starts('pi1')
  assert.deepEqual(stuck(), [])
})

test('a machine on which its reboot command was in vain is told to a person after the deadline', () => {
  const simulated = simulateGroup(['pi1'])
  simulated.machine('pi1').behaviour = 'hangs'
  simulated.begin(settings([['pi1']]), new Map([['pi1', rebooted]]))
  simulated.wait(11 * minutes)
  assert.deepEqual(simulated.restarts.length, 2)
  assert.deepEqual(stuckIn(simulated), [])
  simulated.wait(11 * minutes)
  assert.deepEqual(stuckIn(simulated), ['pi1'])
  assert.deepEqual(simulated.restarts.length, 2)
})

test('a machine that came up too late, and has only a power command, is told to a person', () => {
  const simulated = simulateGroup(['pi1'])
  simulated.machine('pi1').behaviour = 'hangs'
  simulated.begin(settings([['pi1']]), new Map([['pi1', { power: ['power'] }]]))
  simulated.starts('pi1')
  simulated.site.wait(11 * minutes)
  simulated.site.bless('pi1')
  simulated.wait(1 * minutes)
  assert.deepEqual([simulated.stands(), simulated.restarts], [{ pi1: 'bad' }, []])
  assert.deepEqual(stuckIn(simulated), ['pi1'])
})

test('a machine whose tries to restart itself were in vain is told to a person', () => {
  const simulated = simulateGroup(['pi1'])
  const { site, writer } = simulated
  simulated.machine('pi1').restartsItself = 'now'
  simulated.restartsItself = () => {}
  const health = { deadline: 1 * minutes, tries: 1, settle: 0, tcp: [] }
  simulated.begin(settings([['pi1']], { health }))
  const next = () => {
    const { rollout } = simulated
    const rollouts = writer.rollouts.read()
    const status = rolloutStatus(site.of, rollouts, rollout, site.now.uptime, new Map())
    return whatNext(status, new Map())
  }
  simulated.wait(3 * minutes)
  assert.deepEqual([simulated.told.length, next()], [1, []])
  simulated.wait(20 * minutes)
  assert.deepEqual([simulated.told.length, next()], [1, ['restart pi1: nobody else does']])
})

test('a machine that waits in the bad image for its window restarts itself then', () => {
  const simulated = simulateGroup(['pi1'])
  const one = simulated.machine('pi1')
  one.behaviour = 'hangs'
  simulated.begin(settings([['pi1']]), new Map([['pi1', { power: ['power'] }]]))
  simulated.starts('pi1')
  simulated.wait(5 * minutes)
  // It comes up too late, and says so only by this.
  one.phase = 'up'
  one.restartsItself = 'out of its windows'
  simulated.wait(30 * minutes)
  assert.deepEqual([simulated.stands(), simulated.imageOf('pi1')], [{ pi1: 'bad' }, 'new'])
  assert.deepEqual([stuckIn(simulated), simulated.restarts], [[], []])
  // It does not say so any more.
  delete one.restartsItself
  simulated.wait(4 * 60 * minutes)
  assert.deepEqual(stuckIn(simulated), ['pi1'])
  one.restartsItself = 'now'
  simulated.wait(10 * minutes)
  assert.equal(simulated.imageOf('pi1'), 'old')
  assert.deepEqual(simulated.restarts, [])
})

test('a halted roll-out whose bad machine a person calls good blames no machine', () => {
  const simulated = simulateGroup(['pi1', 'pi2'])
  simulated.machine('pi1').behaviour = 'crashes'
  simulated.begin(settings([['pi1'], ['pi2']]), new Map([['pi1', rebooted]]))
  simulated.wait(60 * minutes)
  const next = () => {
    const { site, rollout, writer } = simulated
    const rollouts = writer.rollouts.read()
    const status = rolloutStatus(site.of, rollouts, rollout, site.now.uptime, new Map())
    return whatNext(status, new Map())
  }
  assert.match(next()[0] ?? '', /^see why pi1 failed/)
  simulated.site.change('pi1', (life) => decide(life, 2, 'good') ?? assert.fail())
  assert.match(next()[0] ?? '', /^netimage site resume [a-z]+$/)
})
