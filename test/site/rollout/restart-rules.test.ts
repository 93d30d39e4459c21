// More rules of restarts, as docs/roll-outs.md tells them: when a machine is restarted, and when it is not.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { rollback } from '../../../src/site/life/choose.ts'
import { endCommand } from '../../../src/site/rollout/restart-commands.ts'
import { candidate, minutes } from '../life/support/simulate.ts'
import { rebooted, settings, simulateGroup, tickMs, withPower } from './support/simulate.ts'

const names = ['pi1', 'pi2', 'pi3']
const allReboot = new Map(names.map((name) => [name, rebooted]))
const onlyPower = new Map([['pi1', { power: ['power'] }]])

type Group = ReturnType<typeof simulateGroup>

function waitWhile(group: Group, machine: string, stand: string): void {
  for (let left = 200; left > 0 && group.stands()[machine] === stand; left--) group.wait(tickMs)
  assert.notEqual(group.stands()[machine], stand)
}

function waitFor(group: Group, machine: string, stand: string): void {
  for (let left = 200; left > 0 && group.stands()[machine] !== stand; left--) group.wait(tickMs)
  assert.equal(group.stands()[machine], stand)
}

suite('a machine that restarts itself', () => {
  test('is restarted by the command that the file has for it, at any time', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'out of its windows'
    group.wait(5 * minutes)
    group.begin(settings([['pi1']]), allReboot)
    group.wait(5 * minutes)
    assert.deepEqual(group.told, ['pi1: asks it to restart', 'is done'])
  })

  test('is not let do so if it has started again since it said that it would', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.wait(3 * minutes)
    delete group.machine('pi1').restartsItself
    group.starts('pi1')
    group.wait(tickMs)
    group.begin(settings([['pi1']]))
    group.wait(20 * minutes)
    assert.deepEqual([group.stands()['pi1'], group.told], ['assigned', []])
  })

  test('has its deadline from when it was told, and keeps its slot until then', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    let toldAt: number | undefined
    group.restartsItself = () => void (toldAt ??= group.site.now.uptime)
    const health = { deadline: 10 * minutes, tries: 1, settle: 0, tcp: [] }
    group.begin(settings([['pi1']], { health }))
    waitFor(group, 'pi1', 'asked')
    const askedAt = group.site.now.uptime
    waitWhile(group, 'pi1', 'asked')
    assert.ok(toldAt !== undefined && toldAt > askedAt)
    assert.equal(group.site.now.uptime, toldAt + health.deadline)
  })

  test('is not let do so if a person holds it before it is told', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.begin(settings([['pi1']]))
    waitFor(group, 'pi1', 'asked')
    group.writer.rollouts.hold('pi1', { at: 0, by: 'a person' })
    group.restartsItself = (name) => assert.fail(`${name} restarts itself`)
    group.wait(10 * minutes)
  })

  test('keeps its slot if the server ends before it is told', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.begin(settings([['pi1']]))
    waitFor(group, 'pi1', 'asked')
    group.serverRestarts()
    assert.equal(group.stands()['pi1'], 'asked')
    group.wait(5 * minutes)
    assert.deepEqual(group.told, ['pi1: lets it restart itself', 'is done'])
  })

  test('does not lose its power because its window has ended, if it was let and did not go down', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.restartsItself = () => void (group.machine('pi1').restartsItself = 'out of its windows')
    group.begin(settings([['pi1']]), onlyPower)
    waitFor(group, 'pi1', 'waiting')
    group.wait(60 * minutes)
    assert.deepEqual([group.stands()['pi1'], group.restarts], ['waiting', []])
  })
})

suite('a restart', () => {
  test('by its power is not tried twice on a machine that does not come back', () => {
    const group = simulateGroup(names)
    group.reaches = ({ machine }) => void (group.machine(machine).phase = 'off')
    group.begin(settings([['pi1']]), new Map([['pi1', withPower]]))
    group.wait(120 * minutes)
    assert.deepEqual(
      group.restarts.map(({ kind }) => kind),
      ['reboot', 'power'],
    )
  })

  test('of a machine that hangs comes before the others', () => {
    const group = simulateGroup(names)
    group.machine('pi3').behaviour = 'hangs'
    const restart = new Map([...allReboot, ['pi3', withPower]])
    group.begin(settings([['pi1'], ['pi3', 'pi2']], { halt: 3 }), restart)
    group.wait(60 * minutes)
    assert.deepEqual(
      group.restarts.map(({ machine, kind }) => `${machine} ${kind}`),
      ['pi1 reboot', 'pi3 reboot', 'pi3 reboot', 'pi3 power', 'pi2 reboot'],
    )
  })

  test('is not asked for by a roll-out that is aborted, also if the machine is to boot its image anyway', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1']]), allReboot)
    group.wait(5 * minutes)
    group.site.change('pi1', (life) => {
      const back = rollback(life, undefined)
      return typeof back === 'string' ? assert.fail(back) : { life: back.life, told: [] }
    })
    group.machine('pi1').isDeaf = true
    group.begin(settings([['pi1']], { candidate: candidate('old') }), allReboot)
    assert.equal(group.restarts.length, 2)
    group.abort()
    group.wait(60 * minutes)
    assert.deepEqual([group.stands()['pi1'], group.restarts.length], ['assigned', 2])
  })

  test('of a machine that was seen just after it was asked, and is away since, is not asked again', () => {
    const group = simulateGroup(names)
    group.reaches = () => {}
    group.begin(settings([['pi1']]), allReboot)
    // It goes down slowly, and does not come up again.
    group.wait(1 * minutes)
    group.machine('pi1').phase = 'off'
    group.wait(60 * minutes)
    assert.deepEqual([group.stands()['pi1'], group.restarts.length], ['waiting', 1])
  })

  test('leaves its slot to another machine if a person holds the machine', () => {
    const group = simulateGroup(names)
    group.machine('pi2').slowTicks = 15
    group.begin(settings([['pi1'], ['pi2', 'pi3']]), allReboot)
    waitFor(group, 'pi2', 'asked')
    assert.equal(group.stands()['pi3'], 'assigned')
    group.writer.rollouts.hold('pi2', { at: 0, by: 'a person' })
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi3'], 'good')
  })

  test('that waited and is not wanted any more leaves what was asked before', () => {
    const group = simulateGroup(names)
    group.machine('pi1').isDeaf = true
    let isHeld = false
    group.restart = (all) => {
      for (const due of all) {
        if (isHeld) group.writer.rollouts.hold(due.machine, { at: 0, by: 'a person' })
        if (group.beginsCommand(due)) endCommand(group.writer, due.machine)
        isHeld = true
      }
    }
    group.begin(settings([['pi1']]), allReboot)
    waitFor(group, 'pi1', 'held')
    assert.equal(
      group.told.at(-1),
      'pi1: has not asked it to restart, because the roll-out would not ask this any more',
    )
    assert.partialDeepStrictEqual(group.writer.rollouts.requestOf('pi1'), {
      ...{ times: 1, command: 'ended' },
    })
  })

  test('that had not begun when the server ended is not told if the machine has started again', () => {
    const group = simulateGroup(names)
    group.restart = () => {}
    group.begin(settings([['pi1']]), allReboot)
    group.starts('pi1')
    group.serverRestarts()
    assert.deepEqual(group.told, ['pi1: asks it to restart'])
  })
})
