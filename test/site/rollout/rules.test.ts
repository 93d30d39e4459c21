// The rules of a roll-out, one by one, as docs/roll-outs.md tells them.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { decide, rollback } from '../../../src/site/life/choose.ts'
import { generationOf, newLife } from '../../../src/site/life/life.ts'
import { pause, resume } from '../../../src/site/rollout/pause-resume.ts'
import { endCommand } from '../../../src/site/rollout/restart-commands.ts'
import { standsIn } from '../../../src/site/rollout/rollouts.ts'
import { assignAllowed, candidate, minutes } from '../life/support/simulate.ts'
import { rebooted, settings, simulateGroup, tickMs, withPower } from './support/simulate.ts'

const names = ['pi1', 'pi2', 'pi3', 'pi4', 'pi5', 'pi6']
const waves = [['pi1'], ['pi2', 'pi3'], ['pi4', 'pi5', 'pi6']]
const allReboot = new Map(names.map((name) => [name, rebooted]))

function nextImages(group: ReturnType<typeof simulateGroup>): string {
  return names
    .map((name) => {
      const life = group.site.of(name)
      return generationOf(life, life.current)?.image
    })
    .join(' ')
}

suite('a roll-out', () => {
  test('restarts nobody by default, and goes on as people restart machines', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves))
    group.wait(30 * minutes)
    assert.deepEqual(group.restarts, [])
    assert.equal(nextImages(group), 'new old old old old old')
    group.starts('pi1')
    group.wait(5 * minutes)
    assert.equal(nextImages(group), 'new new new old old old')
    assert.deepEqual(group.told, ['begins wave 2: 2 machines'])
    // One of the wave is enough: the other boots the image whenever it starts.
    group.starts('pi3')
    group.wait(5 * minutes)
    assert.equal(nextImages(group), 'new new new new new new')
    for (const name of ['pi2', 'pi4', 'pi5', 'pi6']) {
      assert.equal(group.rollout.state, 'running')
      group.starts(name)
      group.wait(3 * minutes)
    }
    assert.equal(group.rollout.state, 'done')
  })

  test('restarts machines that may be restarted, so many at once and one wave after the other', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves, { maxUnavailable: 2 }), allReboot)
    group.wait(30 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.deepEqual(
      group.restarts.map(({ machine }) => machine),
      names,
    )
    assert.deepEqual(group.told, [
      'pi1: asks it to restart',
      'begins wave 2: 2 machines',
      'pi2: asks it to restart',
      'pi3: asks it to restart',
      'begins wave 3: 3 machines',
      'pi4: asks it to restart',
      'pi5: asks it to restart',
      'pi6: asks it to restart',
      'is done',
    ])
  })

  test('lets machines restart themselves that ask for it, so many at once and only in their windows', () => {
    const group = simulateGroup(names)
    for (const name of names) group.machine(name).restartsItself = 'out of its windows'
    group.wait(1 * minutes)
    group.begin(settings([['pi1'], names.slice(1)], { maxUnavailable: 2 }))
    group.wait(30 * minutes)
    assert.deepEqual([group.stands()['pi1'], group.told], ['waiting', []])
    group.machine('pi1').restartsItself = 'now'
    group.wait(5 * minutes)
    assert.deepEqual(group.told, [
      'pi1: lets it restart itself',
      'begins wave 2: 5 machines',
      'is done, 5 waiting',
    ])
    // These wait and have no slot, so the others get one.
    for (const name of ['pi2', 'pi4', 'pi6']) {
      group.machine(name).restartsItself = 'now'
      group.machine(name).slowTicks = 2
    }
    group.wait(2.5 * minutes)
    const count = (stand: string) =>
      Object.values(group.stands()).filter((each) => each === stand).length
    assert.deepEqual([count('good'), count('asked'), count('assigned')], [1, 2, 1])
    group.wait(20 * minutes)
    assert.deepEqual(
      group.told.slice(3).toSorted(),
      ['pi2', 'pi4', 'pi6'].map((name) => `${name}: lets it restart itself`),
    )
    // Its window has come.
    group.machine('pi3').restartsItself = 'now'
    group.wait(10 * minutes)
    assert.equal(group.stands()['pi3'], 'good')
    assert.deepEqual(group.restarts, [])
  })

  test('counts a try and begins a deadline only once a machine is told that it may restart itself', () => {
    for (const deadline of [0.5, 1, 2].map((each) => each * minutes)) {
      for (const tries of [1, 3]) {
        const group = simulateGroup(names)
        for (const name of names) group.machine(name).restartsItself = 'now'
        const health = { deadline, tries, settle: 0, tcp: [] }
        group.begin(settings([names], { health }))
        group.wait(60 * minutes)
        assert.deepEqual([deadline, tries, group.rollout.state], [deadline, tries, 'done'])
        assert.equal(group.told.length, names.length + 1)
      }
    }
  })

  test('takes the slot of a machine back that is not ready any more before it is told', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.machine('pi2').restartsItself = 'now'
    group.begin(settings([names]))
    const asked = () => Object.entries(group.stands()).find(([, stand]) => stand === 'asked')?.[0]
    for (let left = 10; left > 0 && asked() === undefined; left--) group.wait(tickMs)
    const first = asked() ?? assert.fail()
    const other = first === 'pi1' ? 'pi2' : 'pi1'
    group.machine(first).restartsItself = 'out of its windows'
    group.wait(2.5 * minutes)
    assert.equal(group.stands()[first], 'waiting')
    group.wait(5 * minutes)
    assert.equal(group.stands()[other], 'good')
    assert.deepEqual(group.told, [
      `${first}: lets it restart itself`,
      `${first}: has not let it restart itself, because its time window has ended`,
      `${other}: lets it restart itself`,
    ])
  })

  test('gives a slot back if the machine does not come to be told that it may restart itself', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.begin(settings([names]), new Map([['pi1', { power: ['power'] }]]))
    for (let left = 10; left > 0 && group.stands()['pi1'] !== 'asked'; left--) group.wait(tickMs)
    group.machine('pi1').phase = 'off'
    group.wait(4.5 * minutes)
    assert.equal(group.stands()['pi1'], 'asked')
    group.wait(60 * minutes)
    assert.equal(group.stands()['pi1'], 'waiting')
    assert.deepEqual(group.restarts, [])
    group.starts('pi1')
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'good')
  })

  test('lets no machine restart itself in a pause, if it is held, or once its readiness is old', () => {
    const group = simulateGroup(names)
    group.machine('pi1').restartsItself = 'now'
    group.begin(settings([names]))
    group.keep(pause(group.rollout))
    group.wait(20 * minutes)
    assert.equal(group.stands()['pi1'], 'assigned')
    group.keep(resume(group.rollout, new Map()))
    group.writer.rollouts.hold('pi1', { at: 0, by: 'a person' })
    group.wait(20 * minutes)
    assert.deepEqual(group.told, [])
    delete group.machine('pi1').restartsItself
    group.wait(10 * minutes)
    group.writer.rollouts.release('pi1')
    group.wait(10 * minutes)
    assert.deepEqual(group.told, [])
  })

  test('gives the slot of a machine back that was let restart itself and did not', () => {
    const group = simulateGroup(names)
    for (const name of ['pi1', 'pi2']) group.machine(name).restartsItself = 'now'
    group.restartsItself = (name) => void (name === 'pi2' && group.starts(name))
    group.begin(settings([names]))
    group.wait(60 * minutes)
    assert.deepEqual(group.told.toSorted(), [
      ...Array.from({ length: 3 }, () => 'pi1: lets it restart itself'),
      'pi2: lets it restart itself',
    ])
  })

  test('gives its trials the health of the group, and its machines what they keep', () => {
    const group = simulateGroup(names)
    const health = { deadline: 5 * minutes, tries: 1, settle: 3 * minutes, tcp: [] }
    group.begin(settings([['pi1'], names.slice(1)], { health: { ...health, tcp: [22] }, keep: 7 }))
    assert.equal(group.site.of('pi1').keep, 7)
    assert.deepEqual(group.site.of('pi1').generations[1]?.policy, { ...health, tcp: [22] })
    group.begin(settings([['pi1'], names.slice(1)], { health }))
    group.starts('pi1')
    group.wait(2.5 * minutes)
    assert.equal(group.stands()['pi1'], 'booting')
    group.wait(0.5 * minutes)
    assert.equal(group.stands()['pi1'], 'good')
    group.machine('pi2').behaviour = 'crashes'
    group.starts('pi2')
    group.wait(1 * minutes)
    assert.equal(group.stands()['pi2'], 'bad')
    group.machine('pi3').behaviour = 'hangs'
    group.starts('pi3')
    group.wait(4.5 * minutes)
    assert.equal(group.stands()['pi3'], 'booting')
    group.wait(0.5 * minutes)
    assert.equal(group.stands()['pi3'], 'bad')
  })

  test('waits after a wave with a pause until a person resumes it', () => {
    const group = simulateGroup(names)
    const paused = waves.map((machines, index) => ({ machines, pause: index === 0 }))
    group.begin(settings(waves, { waves: paused }), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'paused')
    assert.equal(nextImages(group), 'new old old old old old')
    group.keep(resume(group.rollout, new Map()))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
  })

  test('that a person pauses gives nothing to further machines and restarts none', () => {
    const group = simulateGroup(names)
    group.begin(settings([names]), allReboot)
    group.wait(0.5 * minutes)
    const before = group.restarts.length
    group.keep(pause(group.rollout))
    group.wait(60 * minutes)
    assert.equal(group.restarts.length, before)
    group.keep(resume(group.rollout, new Map()))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
  })

  test('that a person pauses does not restart a machine that hangs until it goes on', () => {
    const group = simulateGroup(names)
    group.machine('pi2').behaviour = 'hangs'
    group.begin(settings([['pi1'], names.slice(1)]), new Map([...allReboot, ['pi2', withPower]]))
    while (group.stands()['pi2'] !== 'booting') group.wait(tickMs)
    group.keep(pause(group.rollout))
    const before = group.restarts.length
    group.wait(60 * minutes)
    assert.deepEqual([group.rollout.state, group.stands()['pi2']], ['paused', 'bad'])
    assert.equal(group.restarts.length, before)
    group.keep(resume(group.rollout, new Map()))
    group.wait(60 * minutes)
    assert.equal(group.imageOf('pi2'), 'old')
    assert.equal(group.machine('pi2').phase, 'up')
  })

  test('does not try again what was bad on a machine, and does not count it', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1']]))
    group.machine('pi1').behaviour = 'crashes'
    group.starts('pi1')
    group.wait(5 * minutes)
    assert.equal(group.rollout.state, 'halted')
    group.machine('pi1').behaviour = 'comes up'
    group.begin(settings([['pi1', 'pi2'], names.slice(2)]), allReboot)
    assert.equal(group.stands()['pi1'], 'refused')
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.match(group.told.at(-1) ?? '', /^is done, 1 refused$/)
    // A person may have looked into it.
    group.site.change('pi1', (life) => decide(life, 2, 'good') ?? assert.fail())
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'good')
  })

  test('leaves a machine alone for which somebody chose something else', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1', 'pi2']]), allReboot)
    group.site.change('pi2', (life) => ({ life: { ...life, current: 1 }, told: [] }))
    group.wait(60 * minutes)
    assert.equal(group.stands()['pi2'], 'other')
    assert.equal(group.rollout.state, 'done')
    assert.equal(group.imageOf('pi2'), 'old')
  })

  test('leaves a machine alone that a person let the site forget', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1']]))
    group.site.lives.set('pi1', { ...newLife('pi1'), forgotten: { generation: 2, attempt: 1 } })
    for (const image of ['first', 'second']) {
      group.site.change('pi1', (life) =>
        assignAllowed(life, candidate(image), group.site.now, 'person'),
      )
    }
    group.starts('pi1')
    group.wait(5 * minutes)
    const { current, lastGood } = group.site.of('pi1')
    assert.deepEqual([current, lastGood, group.stands()['pi1']], [4, 4, 'other'])
  })

  test('of the same group replaces the one that runs', () => {
    const group = simulateGroup(names)
    group.begin(settings([names]))
    assert.equal(nextImages(group), 'new new new new new new')
    group.begin(settings([['pi1'], names.slice(1)], { candidate: candidate('newer') }))
    assert.equal(nextImages(group), 'newer old old old old old')
    assert.equal(group.rollout.number, 2)
  })

  test('knows nothing of a machine that has another group now', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1'], names.slice(1)]), allReboot)
    const others = names.filter((name) => name !== 'pi2')
    group.writer.rollouts.setGroups(new Map(others.map((name) => [name, 'lab'])))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.equal(nextImages(group), 'new old new new new new')
  })
})

suite('a machine that went back, and on which a person calls the image good', () => {
  /** The image is bad on pi1, and the person resumes the roll-out. */
  function calledGood(behaviour: 'comes up' | 'crashes') {
    const group = simulateGroup(names)
    group.machine('pi1').behaviour = 'crashes'
    group.begin(settings([['pi1'], names.slice(1)]), allReboot)
    group.wait(60 * minutes)
    assert.deepEqual(group.rollout.haltedBy, ['pi1'])
    group.machine('pi1').behaviour = behaviour
    group.site.change('pi1', (life) => decide(life, 2, 'good') ?? assert.fail())
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'pending')
    group.keep(resume(group.rollout, new Map(Object.entries(group.stands()))))
    group.restart(group.step())
    assert.equal(group.rollout.wave, 0)
    group.wait(60 * minutes)
    return group
  }

  test('is given the image again', () => {
    const group = calledGood('comes up')
    assert.equal(group.rollout.state, 'done')
    assert.equal(nextImages(group), 'new new new new new new')
    assert.equal(group.imageOf('pi1'), 'new')
  })

  test('keeps the image from the next wave if it is bad once more', () => {
    const group = calledGood('crashes')
    assert.equal(group.rollout.state, 'halted')
    assert.equal(nextImages(group), 'old old old old old old')
  })
})

suite('a machine on which the image is good', () => {
  test('is left if a person lets it go back', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves), new Map([['pi1', rebooted]]))
    group.wait(10 * minutes)
    assert.equal(group.stands()['pi1'], 'good')
    group.site.change('pi1', (life) => {
      const back = rollback(life, undefined)
      return typeof back === 'string' ? assert.fail(back) : { life: back.life, told: [] }
    })
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'other')
    assert.equal(nextImages(group), 'old new new old old old')
  })

  test('because a person said so does not stand good before it was up', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves))
    group.starts('pi1')
    group.starts('pi1')
    group.machine('pi1').phase = 'hung'
    group.site.change('pi1', (life) => decide(life, 2, 'good') ?? assert.fail())
    group.wait(30 * minutes)
    assert.equal(group.stands()['pi1'], 'lost')
    assert.equal(group.rollout.wave, 0)
    group.starts('pi1')
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'good')
    assert.equal(group.rollout.wave, 1)
  })
})

suite('a roll-out of an image that was good before', () => {
  const old = { candidate: candidate('old') }

  test('restarts machines that try another one, and counts them as good once they have booted', () => {
    const group = simulateGroup(names)
    const health = { deadline: 30 * minutes, tries: 3, settle: 20 * minutes, tcp: [] }
    group.begin(settings([names], { health, maxUnavailable: 6 }), allReboot)
    group.wait(1 * minutes)
    assert.ok(names.every((name) => group.imageOf(name) === 'new'))
    const before = group.restarts.length
    group.begin(settings([['pi1'], names.slice(1)], old), allReboot)
    assert.equal(nextImages(group), 'old new new new new new')
    assert.equal(group.stands()['pi1'], 'assigned')
    group.wait(120 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.ok(names.every((name) => group.imageOf(name) === 'old'))
    assert.equal(group.restarts.length - before, names.length)
  })

  test('restarts machines that a person let go back, and that still run another one', () => {
    const group = simulateGroup(names)
    group.begin(settings([names]), allReboot)
    group.wait(60 * minutes)
    for (const name of names) {
      group.site.change(name, (life) => {
        const back = rollback(life, 1)
        return typeof back === 'string' ? assert.fail(back) : { life: back.life, told: [] }
      })
    }
    group.begin(settings([names], old), new Map([['pi1', rebooted]]))
    group.wait(60 * minutes)
    assert.deepEqual(
      names.map((name) => group.stands()[name]),
      ['good', 'assigned', 'assigned', 'assigned', 'assigned', 'assigned'],
    )
    group.abort()
    group.wait(1 * minutes)
    // They were to boot it already.
    assert.equal(nextImages(group), 'old old old old old old')
  })

  /** All machines try another image, which is not decided yet. */
  function tryOwn() {
    const group = simulateGroup(names)
    for (const name of names) {
      group.site.change(name, (life) =>
        assignAllowed(life, candidate('own'), group.site.now, 'person'),
      )
      group.starts(name)
    }
    group.wait(1 * minutes)
    return group
  }

  test('that is aborted lets machines that have not restarted boot what they would have booted', () => {
    const group = tryOwn()
    group.begin(settings([names], old))
    assert.equal(nextImages(group), 'old old old old old old')
    group.abort()
    group.step()
    assert.equal(nextImages(group), 'own own own own own own')
  })

  test('restarts nobody who runs it', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves, old), allReboot)
    assert.equal(group.rollout.state, 'done')
    assert.deepEqual(group.restarts, [])
  })

  test('holds up the next wave if a machine does not come up', () => {
    const group = tryOwn()
    const { starts } = group
    let isFirst = true
    group.starts = (name) => {
      starts(name)
      if (isFirst) group.machine(name).phase = 'hung'
      isFirst = false
    }
    group.begin(settings([['pi1'], names.slice(1)], old), new Map([['pi1', withPower]]))
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi1'], 'booting')
    group.wait(5 * minutes)
    assert.equal(group.rollout.wave, 0)
    group.wait(5 * minutes)
    assert.deepEqual(
      group.restarts.map(({ kind }) => kind),
      ['reboot', 'power'],
    )
    assert.equal(group.stands()['pi1'], 'good')
    assert.equal(group.rollout.wave, 1)
  })
})

suite('a machine that is away', () => {
  test('waits, holds up nothing, and tries the image when it comes', () => {
    const group = simulateGroup(names)
    for (const name of ['pi3', 'pi6']) group.machine(name).phase = 'off'
    group.wait(30 * minutes)
    group.begin(settings(waves), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.equal(group.told.at(-1), 'is done, 2 waiting')
    assert.equal(group.stands()['pi3'], 'waiting')
    assert.ok(group.restarts.every(({ machine }) => machine !== 'pi3' && machine !== 'pi6'))
    group.starts('pi3')
    assert.equal(group.stands()['pi3'], 'booting')
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi3'], 'good')
  })

  test('is restarted when it is seen again in what it ran before', () => {
    const group = simulateGroup(names)
    group.machine('pi3').phase = 'off'
    group.wait(30 * minutes)
    group.begin(settings(waves), allReboot)
    group.wait(60 * minutes)
    // The cable was out.
    group.machine('pi3').phase = 'up'
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi3'], 'good')
  })

  test('does not let a wave end in which nobody has tried', () => {
    const group = simulateGroup(names)
    group.machine('pi1').phase = 'off'
    group.wait(30 * minutes)
    group.begin(settings(waves), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.wave, 0)
    group.starts('pi1')
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
  })

  test('that was asked and does not come back gives its slot to others after the deadline', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1'], names.slice(1)]), allReboot)
    group.wait(0.5 * minutes)
    group.machine('pi2').phase = 'off'
    group.wait(9.5 * minutes)
    assert.equal(group.stands()['pi2'], 'asked')
    assert.equal(group.stands()['pi3'], 'assigned')
    group.wait(60 * minutes)
    assert.equal(group.stands()['pi2'], 'waiting')
    assert.equal(group.told.at(-1), 'is done, 1 waiting')
  })
})

suite('a restart', () => {
  test('that does nothing is asked for again, and not for ever', () => {
    const group = simulateGroup(names)
    group.machine('pi1').isDeaf = true
    group.begin(settings([['pi1']]), allReboot)
    assert.equal(group.restarts.length, 1)
    group.wait(9.5 * minutes)
    assert.equal(group.stands()['pi1'], 'asked')
    assert.equal(group.restarts.length, 1)
    group.wait(60 * minutes)
    assert.equal(group.restarts.length, 3)
    assert.equal(group.stands()['pi1'], 'assigned')
  })

  test('by its power is never for a machine that was asked and still runs', () => {
    const itself = { power: ['power'] }
    for (const command of [withPower, itself]) {
      for (const deadline of [0.5, 1, 1.5, 2, 10].map((each) => each * minutes)) {
        const group = simulateGroup(names)
        group.machine('pi1').isDeaf = true
        if (command === itself) group.machine('pi1').restartsItself = 'now'
        group.restartsItself = () => {}
        const health = { deadline, tries: 3, settle: 0, tcp: [] }
        group.begin(settings([['pi1']], { health }), new Map([['pi1', command]]))
        group.wait(90 * minutes)
        assert.equal(group.told.length, 3)
        assert.deepEqual(
          group.restarts.filter(({ kind }) => kind === 'power'),
          [],
        )
        assert.equal(group.stands()['pi1'], 'assigned')
      }
    }
  })

  test('by its power follows one after which the machine did not come back', () => {
    for (const deadline of [1, 2, 10].map((each) => each * minutes)) {
      const group = simulateGroup(names)
      group.restart = (all) => {
        for (const due of all) {
          if (!group.beginsCommand(due)) continue
          if (due.kind === 'power') group.starts(due.machine)
          else group.machine(due.machine).phase = 'hung'
          endCommand(group.writer, due.machine)
        }
      }
      const health = { deadline, tries: 3, settle: 0, tcp: [] }
      group.begin(settings([['pi1']], { health }), new Map([['pi1', withPower]]))
      group.wait(30 * minutes)
      assert.deepEqual(
        group.restarts.map(({ kind }) => kind),
        ['reboot', 'power'],
      )
      assert.equal(group.rollout.state, 'done')
    }
  })

  test('by its power is only for a machine that hangs', () => {
    const group = simulateGroup(names)
    group.machine('pi2').behaviour = 'hangs'
    const restart = new Map([...allReboot, ['pi2', withPower]])
    group.begin(settings([['pi1'], names.slice(1)]), restart)
    group.wait(60 * minutes)
    assert.equal(group.imageOf('pi2'), 'old')
    assert.equal(group.machine('pi2').phase, 'up')
    assert.deepEqual(
      group.restarts.filter(({ machine }) => machine === 'pi2').map(({ kind }) => kind),
      ['reboot', 'reboot', 'power'],
    )
  })
})

suite('a command that the end of the server keeps from running', () => {
  /** pi2 hangs in the image, and the server ends when the power of pi2 is to be switched. */
  function lostPower(hasBegun: boolean) {
    const group = simulateGroup(names)
    group.machine('pi2').behaviour = 'hangs'
    group.begin(settings([['pi1'], names.slice(1)]), new Map([...allReboot, ['pi2', withPower]]))
    const { step } = group
    let lostAt: number | undefined
    let askedAgainAt: number | undefined
    group.step = () => {
      const restarts = step()
      const power = restarts.find(({ kind }) => kind === 'power')
      if (!power) return restarts
      if (lostAt !== undefined) {
        askedAgainAt = group.site.now.uptime
        return restarts
      }
      lostAt = group.site.now.uptime
      if (hasBegun) assert.ok(group.beginsCommand(power))
      group.serverRestarts()
      return []
    }
    group.wait(90 * minutes)
    assert.equal(group.machine('pi2').phase, 'up')
    return (askedAgainAt ?? assert.fail()) - (lostAt ?? assert.fail())
  }

  test('is run by the next server if it had not begun', () => {
    assert.equal(lostPower(false), tickMs)
  })

  test('is run after the deadline if it had begun, unless the machine has started again', () => {
    assert.equal(lostPower(true), 10 * minutes)
  })

  test('is not run again if it has reached the machine', () => {
    const group = simulateGroup(names)
    const { step } = group
    let isLost = false
    group.step = () => {
      const restarts = step()
      const [first] = restarts
      if (isLost || !first) return restarts
      isLost = true
      assert.ok(group.beginsCommand(first))
      group.reaches(first)
      group.serverRestarts()
      return []
    }
    group.begin(settings([['pi1']]), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.restarts.length, 1)
    assert.equal(group.rollout.state, 'done')
  })

  test('does not count as one of the tries', () => {
    const group = simulateGroup(names)
    const { step } = group
    let lost = 0
    group.machine('pi1').isDeaf = true
    group.step = () => {
      const restarts = step()
      const [first] = restarts
      if (lost === 5 || !first) return restarts
      if (lost++ % 2 === 0) assert.ok(group.beginsCommand(first))
      group.serverRestarts()
      return []
    }
    group.begin(settings([['pi1']]), allReboot)
    group.wait(120 * minutes)
    assert.equal(group.restarts.length, 5 + 3)
  })
})

suite('a machine that goes down because it was asked to restart', () => {
  /** pi2 was asked, and has not started again. */
  function goingDown() {
    const group = simulateGroup(names)
    group.begin(settings([['pi1'], names.slice(1)], { maxUnavailable: 1 }), allReboot)
    group.machine('pi2').slowTicks = 15
    group.wait(3 * minutes)
    assert.equal(group.stands()['pi2'], 'asked')
    assert.deepEqual(
      group.restarts.map(({ machine }) => machine),
      ['pi1', 'pi2'],
    )
    return group
  }

  test('has its slot also in the roll-out that replaces the one which asked it', () => {
    const group = goingDown()
    group.begin(settings([names], { candidate: candidate('newer') }), allReboot)
    group.wait(5 * minutes)
    assert.deepEqual(group.stands()['pi2'], 'asked')
    assert.equal(group.restarts.length, 2)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.deepEqual(
      group.restarts.slice(2).map(({ machine }) => machine),
      names.filter((name) => name !== 'pi2'),
    )
  })

  test('has its slot also if the roll-out halts and a person resumes it', () => {
    const group = goingDown()
    // A person says this of two machines, and takes it back.
    for (const verdict of ['bad', 'good'] as const) {
      for (const name of ['pi1', 'pi3']) {
        group.site.change(name, (life) => decide(life, 2, verdict) ?? assert.fail())
      }
      group.step()
      assert.equal(group.rollout.state, 'halted')
    }
    group.keep(resume(group.rollout, new Map(Object.entries(group.stands()))))
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi2'], 'asked')
    assert.equal(group.restarts.length, 2)
  })

  test('is asked again by the next roll-out if it did not go down, as often as by the first', () => {
    const group = simulateGroup(names)
    group.machine('pi1').isDeaf = true
    const all = new Map([['pi1', rebooted]])
    group.begin(settings([['pi1']]), all)
    group.wait(60 * minutes)
    assert.equal(group.restarts.length, 3)
    group.begin(settings([['pi1']], { candidate: candidate('newer') }), all)
    group.wait(60 * minutes)
    assert.equal(group.restarts.length, 6)
  })
})

suite('a halt', () => {
  test('follows the first bad machine of the first wave, and no other machine tries', () => {
    const group = simulateGroup(names)
    group.machine('pi1').behaviour = 'crashes'
    group.begin(settings([['pi1', 'pi2'], names.slice(2)]), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'halted')
    assert.deepEqual(group.rollout.haltedBy, ['pi1'])
    assert.equal(nextImages(group), 'old old old old old old')
    assert.equal(group.imageOf('pi1'), 'old')
    assert.equal(group.imageOf('pi2'), 'old')
    assert.deepEqual(group.told.slice(-2), [
      'halts: pi1 is bad',
      'takes the image back from 1 machine that has not tried it',
    ])
  })

  test('takes as many bad machines as the group says in later waves, and good ones stay', () => {
    const group = simulateGroup(names)
    for (const name of ['pi3', 'pi4']) group.machine(name).behaviour = 'crashes'
    group.begin(settings([['pi1'], names.slice(1)]), allReboot)
    group.wait(60 * minutes)
    assert.deepEqual(group.rollout.haltedBy, ['pi3', 'pi4'])
    assert.ok(group.told.includes('halts: pi3, pi4 are bad'))
    assert.equal(nextImages(group), 'new new old old old old')
  })

  test('goes on when a person has held the machines that were bad', () => {
    const group = simulateGroup(names)
    group.machine('pi1').behaviour = 'crashes'
    group.begin(settings([['pi1', 'pi2'], names.slice(2)]), allReboot)
    group.wait(60 * minutes)
    const stands = () =>
      standsIn(group.writer, group.writer.rollouts.read(), group.rollout, group.site.now)
    assert.deepEqual(resume(group.rollout, stands()), { why: 'would halt again', bad: ['pi1'] })
    group.writer.rollouts.hold('pi1', { at: 0, by: 'a person' })
    group.keep(resume(group.rollout, stands()))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.equal(nextImages(group), 'old new new new new new')
  })

  /** The power is cut. Two machines fail at once, before anybody can know why. */
  function cutTwo(group: ReturnType<typeof simulateGroup>): void {
    for (const name of ['pi2', 'pi3']) group.starts(name)
    group.step()
    assert.equal(group.rollout.state, 'halted')
    for (const name of ['pi4', 'pi5', 'pi6', 'pi1']) group.starts(name)
    group.step()
  }

  test('that a power cut caused ends by itself', () => {
    const group = simulateGroup(names)
    const health = { deadline: 10 * minutes, tries: 1, settle: 1 * minutes, tcp: [] }
    group.begin(settings([['pi1'], names.slice(1)], { health, maxUnavailable: 3 }), allReboot)
    group.wait(1.5 * minutes)
    assert.equal(group.stands()['pi2'], 'booting')
    cutTwo(group)
    assert.equal(group.rollout.state, 'running')
    assert.ok(group.told.some((says) => says.startsWith('goes on: a power cut')))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
    assert.equal(nextImages(group), 'new new new new new new')
  })

  test('that a power cut caused ends in the pause before it', () => {
    const group = simulateGroup(names)
    const health = { deadline: 10 * minutes, tries: 1, settle: 1 * minutes, tcp: [] }
    const more = { health, maxUnavailable: 3 }
    group.begin(settings([['pi1'], ['pi2', 'pi3'], names.slice(3)], more), allReboot)
    group.wait(1.5 * minutes)
    group.keep(pause(group.rollout))
    group.step()
    cutTwo(group)
    assert.deepEqual([group.rollout.state, group.rollout.reason], ['paused', 'a person paused it'])
    assert.match(group.told.at(-1) ?? '', /^is paused again: a power cut/)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'paused')
    assert.equal(group.imageOf('pi4'), 'old')
    group.keep(resume(group.rollout, new Map()))
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'done')
  })

  test('that a power cut caused after the last wave ends in a roll-out that is done', () => {
    const group = simulateGroup(names)
    for (const name of ['pi2', 'pi3']) group.machine(name).phase = 'off'
    group.wait(30 * minutes)
    const health = { deadline: 10 * minutes, tries: 1, settle: 1 * minutes, tcp: [] }
    group.begin(settings([['pi1'], names.slice(1)], { health }), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.told.at(-1), 'is done, 2 waiting')
    for (const name of ['pi2', 'pi3']) group.starts(name)
    cutTwo(group)
    assert.equal(group.rollout.state, 'done')
    assert.match(group.told.at(-1) ?? '', /^is done again: a power cut/)
  })

  for (const order of ['hold', 'good'] as const) {
    test(`of machines whose first failures looked like a power cut stays after ${order} of one`, () => {
      const five = names.slice(0, 5)
      const group = simulateGroup(five)
      const together = ['pi2', 'pi3', 'pi4']
      for (const name of together) group.machine(name).behaviour = 'crashes'
      const health = { deadline: 10 * minutes, tries: 1, settle: 1 * minutes, tcp: [] }
      const more = { health, maxUnavailable: 3, halt: 3 }
      group.begin(settings([['pi1'], together, ['pi5']], more), allReboot)
      group.wait(30 * minutes)
      assert.equal(group.rollout.state, 'halted')
      assert.equal(generationOf(group.site.of('pi2'), 2)?.isExcused, true)
      if (order === 'hold') group.writer.rollouts.hold('pi2', { at: 0, by: 'a person' })
      else group.site.change('pi2', (life) => decide(life, 2, 'good') ?? assert.fail())
      group.wait(30 * minutes)
      assert.equal(group.rollout.state, 'halted')
      assert.equal(group.imageOf('pi5'), 'old')
    })
  }

  test('is what a person can do as well', () => {
    const group = simulateGroup(names)
    group.begin(settings(waves), new Map())
    group.starts('pi1')
    group.wait(5 * minutes)
    assert.equal(nextImages(group), 'new new new old old old')
    group.abort()
    group.wait(60 * minutes)
    assert.equal(nextImages(group), 'new old old old old old')
    assert.deepEqual(group.abort(), { why: 'is aborted' })
    assert.deepEqual(resume(group.rollout, new Map()), { why: 'is aborted' })
  })
})

test('a try that a power cut excused is none', () => {
  const group = simulateGroup(names)
  const health = { deadline: 10 * minutes, tries: 1, settle: 3 * minutes, tcp: [] }
  group.begin(settings([names], { health }))
  for (const name of names) group.starts(name)
  group.wait(1.5 * minutes)
  // The first three have gone back before anybody can know that the power was cut.
  for (const name of names) group.starts(name)
  assert.equal(nextImages(group), 'new new new new new new')
  group.abort()
  group.step()
  assert.equal(nextImages(group), 'old old old new new new')
})

suite('a wave in which nobody can try the image', () => {
  const byTwo = [['pi1'], ['pi2', 'pi3'], ['pi4', 'pi5', 'pi6']]

  test('ends if a person holds all of its machines, and the next one is as careful as the first', () => {
    const group = simulateGroup(names)
    for (const name of ['pi1', 'pi2']) group.machine(name).behaviour = 'crashes'
    group.begin(settings(byTwo, { halt: 2 }), allReboot)
    group.wait(60 * minutes)
    group.writer.rollouts.hold('pi1', { at: 0, by: 'a person' })
    const stands = () => new Map(Object.entries(group.stands()))
    group.keep(resume(group.rollout, stands()))
    group.wait(60 * minutes)
    // A single bad machine is enough, because the image was good on none.
    assert.deepEqual(group.rollout.haltedBy, ['pi2'])
    assert.equal(nextImages(group), 'old old old old old old')
    group.writer.rollouts.hold('pi2', { at: 0, by: 'a person' })
    group.keep(resume(group.rollout, stands()))
    group.wait(60 * minutes)
    assert.equal(group.told.at(-1), 'is done, 2 held')
    assert.equal(nextImages(group), 'old old new new new new')
  })

  test('lets the next one wait for a person if the image was bad there before', () => {
    const group = simulateGroup(names)
    group.machine('pi1').behaviour = 'crashes'
    group.begin(settings(byTwo), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'halted')
    group.begin(settings(byTwo), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.rollout.state, 'paused')
    assert.match(group.rollout.reason ?? '', /^wave 1 was not tried, because the image was bad/)
    group.keep(resume(group.rollout, new Map()))
    group.wait(60 * minutes)
    assert.equal(group.told.at(-1), 'is done, 1 refused')
  })

  test('ends also if it is the last one', () => {
    const group = simulateGroup(names)
    for (const name of names) group.writer.rollouts.hold(name, { at: 0, by: 'a person' })
    group.begin(settings(byTwo), allReboot)
    group.wait(1 * minutes)
    assert.equal(group.told.at(-1), 'is done, 6 held')
    assert.deepEqual(group.restarts, [])
  })
})

suite('a hold', () => {
  test('leaves a machine out until it is released', () => {
    const group = simulateGroup(names)
    group.writer.rollouts.hold('pi2', { at: 0, by: 'a person' })
    group.begin(settings(waves), allReboot)
    group.wait(60 * minutes)
    assert.equal(group.told.at(-1), 'is done, 1 held')
    assert.equal(nextImages(group), 'new old new new new new')
    group.writer.rollouts.release('pi2')
    group.wait(5 * minutes)
    assert.equal(group.stands()['pi2'], 'good')
  })

  test('of a bad machine ends with the image on it only if a person has called it good', () => {
    for (const isCalledGood of [false, true]) {
      const group = simulateGroup(names)
      group.machine('pi1').behaviour = 'crashes'
      group.begin(settings([['pi1', 'pi2'], names.slice(2)], { halt: 1 }), allReboot)
      group.wait(60 * minutes)
      group.writer.rollouts.hold('pi1', { at: 0, by: 'a person' })
      group.keep(resume(group.rollout, new Map(Object.entries(group.stands()))))
      group.wait(60 * minutes)
      assert.equal(group.told.at(-1), 'is done, 1 held')
      group.machine('pi1').behaviour = 'comes up'
      if (isCalledGood) group.site.change('pi1', (life) => decide(life, 2, 'good') ?? assert.fail())
      group.writer.rollouts.release('pi1')
      group.wait(60 * minutes)
      const now = [group.rollout.state, group.stands()['pi1'], group.imageOf('pi1')]
      assert.deepEqual(now, isCalledGood ? ['done', 'good', 'new'] : ['halted', 'bad', 'old'])
    }
  })

  test('takes the image back from a machine that has not tried it', () => {
    const group = simulateGroup(names)
    group.begin(settings([['pi1', 'pi2'], names.slice(2)]))
    group.writer.rollouts.hold('pi2', { at: 0, by: 'a person' })
    group.step()
    assert.equal(nextImages(group), 'new old old old old old')
  })
})
