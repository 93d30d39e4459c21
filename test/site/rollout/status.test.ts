// What a person is told of a roll-out.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rolloutStatus } from '../../../src/site/rollout/status.ts'
import { minutes } from '../life/support/simulate.ts'
import { rebooted, settings, simulateGroup } from './support/simulate.ts'

test('a machine that stays in the bad image is told to a person if no command restarts it', () => {
  const names = ['pi1', 'pi2', 'pi3', 'pi4']
  const simulated = simulateGroup(names)
  for (const name of ['pi1', 'pi2', 'pi3']) simulated.machine(name).behaviour = 'hangs'
  simulated.machine('pi4').behaviour = 'crashes'
  const { site } = simulated
  const commands = new Map([
    ['pi2', rebooted],
    ['pi3', { power: ['power'] }],
  ])
  simulated.begin(settings([names], { maxUnavailable: 4 }), commands)
  const stuck = () => {
    const { rollout, writer } = simulated
    return rolloutStatus(site.of, writer.rollouts.read(), rollout, site.now.uptime).stuck
  }
  simulated.starts('pi1')
  simulated.starts('pi4')
  assert.deepEqual(stuck(), [])
  simulated.wait(11 * minutes)
  assert.deepEqual(stuck(), ['pi1'])
  simulated.starts('pi1')
  assert.deepEqual(stuck(), [])
})
