// The rules of a machine's life, one by one, as docs/site.md tells them.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { portsToTryIn } from '../../../src/site/life/attempts.ts'
import { assign, decide, offer, rollback, type Chooser } from '../../../src/site/life/choose.ts'
import { keptOf, neededImages } from '../../../src/site/life/kept.ts'
import { defaultPolicy, lastAttempt, type Candidate } from '../../../src/site/life/life.ts'
import { assignAllowed, candidate, minutes, simulate } from './support/simulate.ts'

/** Lets a machine boot an image until the image is good. */
function madeGood(image: string) {
  const machine = simulate()
  machine.assign(image)
  machine.comesUp()
  return machine
}

suite('a trial', () => {
  test('is good when the machine was blessed and has settled', () => {
    const machine = simulate()
    machine.assign('a')
    machine.begin()
    machine.bless()
    machine.wait(2 * minutes - 1)
    assert.equal(machine.verdict(1), 'trial')
    machine.wait(1)
    assert.equal(machine.verdict(1), 'good')
    assert.equal(machine.life.lastGood, 1)
    assert.equal(lastAttempt(machine.life)?.outcome, 'good')
  })

  test('is bad after three attempts, and the last good generation comes back', () => {
    const machine = madeGood('a')
    machine.assign('b')
    for (const bound of [2, 2, 2, 1]) {
      assert.equal(machine.begin(), bound)
      if (bound === 2) machine.see({ kind: 'step', step: 'mount' })
    }
    assert.equal(machine.verdict(2), 'bad')
    assert.match(
      machine.generation(2)?.reason ?? '',
      /^it started again 3 times, the last time before the machine reads its init$/,
    )
    assert.equal(machine.told.at(-1)?.why, 'started-again')
    machine.comesUp()
    assert.equal(machine.begin(), 1)
  })

  test('is bad when its deadline passes, and at once', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.begin()
    machine.see({ kind: 'step', step: 'initrd' })
    machine.see({ kind: 'trouble', trouble: 'DHCP: refused' })
    machine.wait(10 * minutes)
    assert.equal(machine.verdict(2), 'bad')
    assert.equal(
      machine.generation(2)?.reason,
      'not up within 10 minutes: it stopped after initrd (DHCP: refused)',
    )
    assert.equal(machine.told.at(-1)?.why, 'too-late')
    assert.equal(machine.begin(), 1)
  })

  test('has one deadline for all its attempts', () => {
    const machine = madeGood('a')
    machine.assign('b')
    for (let attempt = 0; attempt < 2; attempt++) {
      machine.begin()
      machine.wait(4 * minutes)
    }
    machine.begin()
    machine.wait(2 * minutes - 1)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1)
    assert.equal(machine.verdict(2), 'bad')
  })

  test('that a person left while it ran may be good, but is not booted next', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.begin()
    machine.bless()
    const back = rollback(machine.life, undefined)
    machine.apply(() => (typeof back === 'string' ? assert.fail(back) : { ...back, told: [] }))
    machine.wait(2 * minutes)
    assert.equal(machine.verdict(2), 'good')
    assert.equal(machine.life.lastGood, 1)
    assert.equal(machine.begin(), 1)
  })

  test('that was blessed before the deadline may settle after it', () => {
    const machine = simulate()
    machine.assign('a')
    machine.begin()
    machine.wait(9.5 * minutes)
    machine.bless()
    machine.wait(2 * minutes)
    assert.equal(machine.verdict(1), 'good')
  })

  test('of a system that does not bless is good when init was read and the machine settled', () => {
    const machine = simulate()
    machine.apply((life) =>
      assignAllowed(life, candidate('a', { blesses: false }), machine.now, 'person'),
    )
    machine.begin()
    machine.see({ kind: 'step', step: 'mount' })
    machine.wait(5 * minutes)
    assert.equal(machine.verdict(1), 'trial')
    machine.see({ kind: 'step', step: 'init' })
    machine.wait(2 * minutes)
    assert.equal(machine.verdict(1), 'good')
  })

  test('is not good by the blessing of another system, and this is told', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.begin()
    machine.see({ kind: 'bless', bootId: 'x', toplevel: candidate('a').toplevel })
    const toldOther = () => machine.told.filter(({ kind }) => kind === 'other system').length
    assert.equal(toldOther(), 1)
    // The machine can write its note as often as it likes.
    machine.see({ kind: 'bless', bootId: 'y', toplevel: candidate('c').toplevel })
    assert.equal(toldOther(), 1)
    machine.begin()
    machine.see({ kind: 'bless', bootId: 'z', toplevel: candidate('a').toplevel })
    assert.equal(toldOther(), 2)
    machine.wait(10 * minutes)
    assert.equal(machine.verdict(2), 'bad')
  })

  test('is good if the machine boots a specialisation of its system', () => {
    const machine = simulate()
    const specialisations = ['/nix/store/special']
    machine.apply((life) =>
      assignAllowed(life, candidate('a', { specialisations }), machine.now, 'person'),
    )
    machine.begin()
    machine.see({ kind: 'bless', bootId: 'x', toplevel: '/nix/store/special' })
    machine.wait(2 * minutes)
    assert.equal(machine.verdict(1), 'good')
  })

  test('is not good by the note of an earlier boot', () => {
    const machine = simulate()
    machine.assign('a')
    machine.begin()
    machine.see({ kind: 'bless', bootId: 'first', toplevel: candidate('a').toplevel })
    machine.begin()
    machine.see({ kind: 'bless', bootId: 'first', toplevel: candidate('a').toplevel })
    machine.wait(5 * minutes)
    assert.equal(machine.verdict(1), 'trial')
  })

  test('without a good generation before it stays', () => {
    const machine = simulate()
    machine.assign('a')
    for (const bound of [1, 1, 1, 1, 1]) assert.equal(machine.begin(), bound)
    assert.equal(machine.verdict(1), 'bad')
    assert.equal(machine.told.filter(({ kind }) => kind === 'stays').length, 1)
    // Bad is bad, until a person says good.
    machine.comesUp()
    assert.equal(machine.verdict(1), 'bad')
    assert.equal(decide(machine.life, 1, 'good')?.life.lastGood, 1)
  })
})

suite('an attempt', () => {
  test('of a machine that only asks DHCP is not judged, and counts for nothing', () => {
    const machine = madeGood('a')
    machine.asksDhcp()
    machine.wait(60 * minutes)
    assert.equal(machine.life.alarm, undefined)
    machine.assign('b')
    for (let round = 0; round < 4; round++) {
      assert.equal(machine.asksDhcp(), 2)
      machine.wait(60 * minutes)
    }
    assert.equal(machine.verdict(2), 'trial')
    assert.deepEqual(
      machine.life.attempts.map(({ outcome }) => outcome),
      ['good', 'void', 'void', 'void', 'void', 'running'],
    )
    assert.equal(machine.generation(2)?.failures, 0)
  })

  test('has its time from the first boot file on, also if the loader stops then', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.asksDhcp()
    machine.wait(9 * minutes)
    machine.see({ kind: 'step', step: 'loader' })
    machine.wait(10 * minutes - 1)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1)
    assert.equal(machine.verdict(2), 'bad')
  })

  test('that the end of the server cut counts for nothing', () => {
    const machine = madeGood('a')
    machine.assign('b')
    for (let round = 0; round < 5; round++) {
      assert.equal(machine.begin(), 2)
      machine.serverRestarts()
    }
    assert.equal(machine.begin(), 2)
    assert.equal(machine.generation(2)?.failures, 0)
  })

  test('goes on when the machine is seen again after the end of the server', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.begin()
    machine.wait(3 * minutes)
    machine.serverRestarts()
    // The deadline does not pass while nobody knows whether the machine runs.
    machine.wait(30 * minutes)
    assert.equal(machine.verdict(2), 'trial')
    machine.see({ kind: 'alive' })
    machine.wait(6 * minutes)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1 * minutes)
    assert.equal(machine.verdict(2), 'bad')
  })

  test('does not count the time in which the machine waits for the server', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.begin()
    machine.wait(2 * minutes)
    machine.see({ kind: 'waits' })
    machine.wait(60 * minutes)
    machine.see({ kind: 'waited' })
    machine.wait(1 * minutes)
    machine.see({ kind: 'waits' })
    machine.wait(60 * minutes)
    // The server goes on, so the next attempt waits as well.
    machine.begin()
    machine.wait(60 * minutes)
    assert.equal(machine.generation(2)?.spent, 3 * minutes)
    machine.see({ kind: 'waited' })
    machine.wait(7 * minutes - 1)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1)
    assert.equal(machine.verdict(2), 'bad')
  })

  test('of a good generation that fails is an alarm and never leads back', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.comesUp()
    for (let round = 0; round < 5; round++) assert.equal(machine.begin(), 2)
    assert.equal(machine.verdict(2), 'good')
    assert.notEqual(machine.life.alarm, undefined)
    machine.comesUp()
    assert.equal(machine.life.alarm, undefined)
  })

  test('of a good generation may be slower than the deadline of a trial', () => {
    const machine = madeGood('a')
    machine.begin()
    machine.wait(15 * minutes)
    assert.notEqual(machine.life.alarm, undefined)
    machine.bless()
    assert.equal(machine.life.alarm, undefined)
    assert.equal(lastAttempt(machine.life)?.outcome, 'good')
  })
})

suite('a choice', () => {
  test('of the current image changes nothing, and a bad image is refused', () => {
    const machine = madeGood('a')
    assert.equal(assignAllowed(machine.life, candidate('a'), machine.now, 'person').result, 'same')
    machine.assign('b')
    for (let round = 0; round < 4; round++) machine.begin()
    assert.deepEqual(assign(machine.life, candidate('b'), machine.now, 'person'), {
      refused: machine.generation(2),
    })
    machine.apply((life) => decide(life, 2, 'good') ?? assert.fail())
    assert.equal(machine.life.current, 1)
    assert.equal(
      assignAllowed(machine.life, candidate('b'), machine.now, 'person').generation.number,
      3,
    )
  })

  // Whether a machine gets a system in an image or builds the system itself, the system is the same.
  test('of what was bad is refused, also if the machine published it and the image brings it', () => {
    const machine = madeGood('a')
    const image = candidate('b')
    const otherImage = candidate('c', { toplevel: image.toplevel })
    const published = candidate('a', { toplevel: image.toplevel, published: 'own' })
    const fail = (wanted: Candidate, by: Chooser) => {
      machine.apply((life) => assignAllowed(life, wanted, machine.now, by))
      for (let round = 0; round < 4; round++) machine.begin()
    }
    const refused = (wanted: Candidate) => {
      const assigned = assign(machine.life, wanted, machine.now, 'person')
      return 'refused' in assigned ? assigned.refused.number : undefined
    }
    fail(image, 'person')
    assert.deepEqual([image, published].map(refused), [2, 2])
    // It has other boot files, so these may be what is good.
    assert.equal(refused(otherImage), undefined)
    machine.apply((life) => decide(life, 2, 'good') ?? assert.fail())
    assert.equal(refused(published), undefined)
    fail(published, 'machine')
    assert.deepEqual([image, otherImage, published].map(refused), [3, 3, 3])
    // The newest word counts, whichever of the two generations it is about.
    machine.apply((life) => decide(life, 2, 'good') ?? assert.fail())
    assert.deepEqual([image, otherImage, published].map(refused), [undefined, 3, undefined])
    machine.apply((life) => decide(life, 3, 'bad') ?? assert.fail())
    assert.deepEqual([image, published].map(refused), [3, 3])
  })

  test('that a machine published is no new one if its image has this system', () => {
    const machine = simulate()
    machine.apply((life) => offer(life, candidate('a'), machine.now))
    const own = candidate('a', { published: 'own' })
    const publish = () => assignAllowed(machine.life, own, machine.now, 'machine')
    for (const verdict of ['trial', 'good']) {
      assert.equal(machine.verdict(1), verdict)
      assert.deepEqual([publish().result, publish().life], ['same', machine.life])
      machine.comesUp()
    }
    machine.assign('b')
    assert.deepEqual([publish().result, publish().life.current], ['back', 1])
    // The files outside the store and the boot files of an image are its own.
    machine.apply((life) => assignAllowed(life, candidate('c'), machine.now, 'machine'))
    const image = candidate('d', { toplevel: candidate('c').toplevel })
    assert.equal(assignAllowed(machine.life, image, machine.now, 'person').result, 'new')
  })

  test('replaces a waiting trial, and numbers are not used again', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.assign('c')
    assert.equal(machine.begin(), 3)
    const back = assignAllowed(machine.life, candidate('a'), machine.now, 'person')
    assert.deepEqual([back.result, back.life.current], ['back', 1])
    assert.equal(
      assignAllowed(back.life, candidate('b'), machine.now, 'person').generation.number,
      4,
    )
  })

  test('of a person is not replaced by the default of the site', () => {
    const machine = simulate()
    machine.apply((life) => offer(life, candidate('a'), machine.now))
    assert.equal(machine.life.current, 1)
    machine.apply((life) => offer(life, candidate('b'), machine.now))
    assert.equal(machine.life.current, 2)
    machine.assign('c')
    machine.apply((life) => offer(life, candidate('d'), machine.now))
    assert.equal(machine.life.current, 3)
  })

  test('to go back is not undone by the same default', () => {
    const machine = simulate()
    machine.apply((life) => offer(life, candidate('a'), machine.now))
    machine.comesUp()
    machine.apply((life) => offer(life, candidate('b'), machine.now))
    for (let round = 0; round < 4; round++) machine.begin()
    machine.apply((life) => offer(life, candidate('b'), machine.now))
    assert.equal(machine.life.current, 1)
    // The machine was given this default already, so it is not refused again at each start.
    assert.ok(!machine.told.some(({ kind }) => kind === 'default refused'))
  })

  test('to go back takes the last good generation, the one before it, or the one that is named', () => {
    const machine = madeGood('a')
    for (const image of ['b', 'c']) {
      machine.assign(image)
      machine.comesUp()
    }
    machine.assign('d')
    const goBack = (to?: number) => {
      const back = rollback(machine.life, to)
      if (typeof back === 'string') return back
      machine.apply(() => ({ ...back, told: [] }))
      return back.generation.number
    }
    assert.equal(goBack(4), 'not good')
    assert.equal(goBack(9), 'unknown generation')
    assert.deepEqual([goBack(), goBack(), goBack(3), goBack(1)], [3, 2, 3, 1])
    assert.equal(goBack(), 'no good generation')
    assert.equal(machine.begin(), 1)
  })

  test('that the last good generation is bad leads to the good one before', () => {
    const machine = madeGood('a')
    machine.assign('b')
    machine.comesUp()
    machine.apply((life) => decide(life, undefined, 'bad') ?? assert.fail())
    assert.deepEqual([machine.life.current, machine.life.lastGood], [1, 1])
  })
})

test('a machine keeps what it runs, boots next and can go back to, but no bad generation', () => {
  const machine = madeGood('1')
  for (const image of ['2', '3', '4', '5', '6']) {
    machine.assign(image)
    machine.comesUp()
  }
  machine.assign('7')
  for (let round = 0; round < 4; round++) machine.begin()
  machine.assign('8')
  assert.deepEqual(
    keptOf(machine.life).map(({ number }) => number),
    [3, 4, 5, 6, 8],
  )
  const keptWith = (keep: number) => keptOf({ ...machine.life, keep }).map(({ number }) => number)
  assert.deepEqual([0, 1, 100].map(keptWith), [
    [6, 8],
    [5, 6, 8],
    [1, 2, 3, 4, 5, 6, 8],
  ])
})

test('a machine keeps the images that a published system of it may refer to', () => {
  const machine = madeGood('a')
  machine.assign('b')
  machine.comesUp()
  const keptImages = lastAttempt(machine.life)?.keptImages ?? []
  assert.deepEqual(keptImages, ['a'])
  const own = candidate('b', { published: 'own', toplevel: '/nix/store/own', keptImages })
  machine.apply((life) => assignAllowed(life, own, machine.now, 'machine'))
  machine.begin()
  machine.see({ kind: 'bless', bootId: 'own', toplevel: '/nix/store/own' })
  machine.wait(defaultPolicy.settle)
  const seen: (readonly string[] | undefined)[] = []
  for (const image of ['c', 'd', 'e', 'f']) {
    machine.assign(image)
    machine.comesUp()
    seen.push(lastAttempt(machine.life)?.keptImages)
  }
  assert.deepEqual(seen, [
    ['a', 'b'],
    ['a', 'b', 'c'],
    ['a', 'b', 'c', 'd'],
    ['a', 'b', 'c', 'd', 'e'],
  ])
  machine.assign('g')
  // The machine still runs f, and sees the store paths that it saw at its start.
  assert.deepEqual([...neededImages(machine.life)].toSorted().join(''), 'abcdefg')
  machine.begin()
  assert.deepEqual([...neededImages(machine.life)].toSorted().join(''), 'cdefg')
})

suite('a trial with a policy of its own', () => {
  /** @param tcp ports at which the machine must accept connections */
  function onTrial(tcp: readonly number[] = []) {
    const machine = madeGood('a')
    machine.assign('b')
    const policy = { deadline: 4 * minutes, tries: 2, settle: 1 * minutes, tcp }
    machine.apply((life) => {
      const [first, trial] = life.generations
      assert.ok(first && trial)
      return { life: { ...life, generations: [first, { ...trial, policy }] }, told: [] }
    })
    machine.begin()
    return machine
  }

  test('has its tries, its deadline and its settle time', () => {
    const crashes = onTrial()
    assert.equal(crashes.begin(), 2)
    assert.equal(crashes.begin(), 1)
    const hangs = onTrial()
    hangs.wait(4 * minutes)
    assert.match(hangs.generation(2)?.reason ?? '', /^not up within 4 minutes/)
    const comesUp = onTrial()
    comesUp.bless()
    comesUp.wait(1 * minutes)
    assert.equal(comesUp.verdict(2), 'good')
  })

  test('is good only if the machine accepts connections after it has settled', () => {
    const machine = onTrial([22])
    machine.bless()
    machine.wait(1 * minutes - 1)
    const toTry = () => portsToTryIn(machine.life, machine.now, defaultPolicy)
    assert.equal(toTry(), undefined)
    machine.wait(1)
    assert.deepEqual(toTry(), { attempt: 2, ports: [22] })
    assert.equal(machine.verdict(2), 'trial')
    machine.see({ kind: 'answers', attempt: 1 })
    assert.notEqual(toTry(), undefined)
    machine.see({ kind: 'answers', attempt: 2 })
    machine.wait(1)
    assert.equal(machine.verdict(2), 'good')
    assert.equal(toTry(), undefined)
    // Later attempts of a good generation are as those of all others.
    machine.begin()
    machine.bless()
    machine.wait(1)
    assert.equal(lastAttempt(machine.life)?.outcome, 'good')
  })

  test('is bad if the machine accepts none until the deadline', () => {
    const machine = onTrial([22, 80])
    machine.bless()
    machine.wait(4 * minutes - 1)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1)
    assert.equal(
      machine.generation(2)?.reason,
      'up, but the server could not connect to all of the TCP ports 22, 80 within 4 minutes',
    )
    assert.equal(machine.told.at(-1)?.why, 'no-answer')
    assert.equal(machine.begin(), 1)
  })

  test('gives a machine that comes up late the time to accept connections', () => {
    const machine = onTrial([22])
    machine.wait(4 * minutes - 1)
    machine.bless()
    machine.wait(1.5 * minutes - 1)
    assert.equal(machine.verdict(2), 'trial')
    machine.wait(1)
    assert.equal(machine.verdict(2), 'bad')
  })
})
