// A power cut excuses the attempts that it cut, and nothing else.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assignAllowed, candidate, minutes, simulateSite } from './support/simulate.ts'

const names = ['a', 'b', 'c', 'd', 'e']

/** All machines are good with one image and have begun the trial of another. */
function onTrial(failures: number, machines: readonly string[] = names) {
  const site = simulateSite()
  for (const name of machines) {
    site.change(name, (life) => assignAllowed(life, candidate('old'), site.now, 'person'))
    site.begin(name)
    site.bless(name)
  }
  site.wait(2 * minutes)
  for (const name of machines) {
    site.change(name, (life) => assignAllowed(life, candidate('new'), site.now, 'person'))
  }
  // No three machines within a minute: no power cut.
  for (let count = 0; count <= failures; count++) {
    for (const name of machines) {
      site.begin(name)
      site.wait(0.6 * minutes)
    }
  }
  site.wait(0.5 * minutes)
  return site
}

test('most machines that start again within a minute fail no attempt', () => {
  const site = onTrial(0)
  for (const name of names) assert.equal(site.begin(name), 2)
  for (const name of names) {
    const { generations, attempts } = site.of(name)
    assert.equal(generations[1]?.failures, 0)
    assert.deepEqual(
      attempts.map(({ outcome }) => outcome),
      ['good', 'void', 'running'],
    )
  }
})

test('a verdict that a power cut brought is taken back, and the machine tries again later', () => {
  const site = onTrial(2)
  // The first two are answered before anybody can know that the power was cut.
  assert.deepEqual(
    names.map((name) => site.begin(name)),
    [1, 1, 2, 2, 2],
  )
  for (const name of names) {
    assert.equal(site.of(name).generations[1]?.verdict, 'trial')
    assert.equal(site.of(name).current, 2)
    const ofCut = site.told.filter(({ machine, why }) => machine === name && why === 'power-cut')
    assert.deepEqual(
      ofCut.map(({ kind }) => kind),
      ['attempt void', 'taken back'],
    )
  }
  site.bless('a')
  site.wait(2 * minutes)
  assert.equal(site.begin('a'), 2)
  // The attempt that was cut has taken nothing of the ten minutes.
  site.wait(2 * minutes)
  assert.equal(site.of('a').generations[1]?.verdict, 'trial')
})

test('a person who chose something else within the minute keeps it', () => {
  const site = onTrial(2)
  site.begin('a')
  site.change('a', (life) => assignAllowed(life, candidate('third'), site.now, 'person'))
  for (const name of names.slice(1)) site.begin(name)
  assert.equal(site.of('a').generations[1]?.verdict, 'trial')
  assert.equal(site.of('a').current, 3)
})

test('machines that crash together again and again are no power cut for ever', () => {
  const site = onTrial(0)
  for (let round = 0; round < 4; round++) {
    site.wait(0.5 * minutes)
    for (const name of names) site.begin(name)
  }
  for (const name of names) {
    assert.equal(site.of(name).generations[1]?.verdict, 'bad')
    assert.equal(site.of(name).current, 1)
  }
})

test('half of the machines, or machines of a small site, are no power cut', () => {
  const site = onTrial(0)
  site.begin('a')
  site.begin('b')
  assert.equal(site.of('a').generations[1]?.failures, 1)
  site.wait(2 * minutes)
  site.begin('c')
  assert.equal(site.of('c').generations[1]?.failures, 1)

  const six = onTrial(0, [...names, 'f'])
  for (const name of ['a', 'b', 'c']) six.begin(name)
  assert.equal(six.of('c').generations[1]?.failures, 1)
})
