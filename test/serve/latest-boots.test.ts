import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Boot } from '../../src/boots/follow.ts'
import { createLatestBoots } from '../../src/serve/front/latest-boots.ts'

test('boots are under way until the machine is up, has given no sign for long, or only asked', () => {
  const now = 1_000_000_000
  const latest = createLatestBoots((machine) => machine !== 'stranger')
  const keep = (machine: string, change: Partial<Boot> = {}, mayForget = false) =>
    latest.keep(
      { ...{ machine, started: 0, step: 'kernel', steps: {}, bytes: 0, lastSign: now }, ...change },
      mayForget,
    )
  keep('boots')
  keep('boots slowly', { lastSign: now - 5 * 60_000 })
  keep('gave no sign for a day', { lastSign: now - 24 * 60 * 60_000 })
  keep('is up', { steps: { registered: now } })
  keep('booted before', { isFromBefore: true })
  keep('only asked', {}, true)
  keep('stranger')
  const machines = latest.underWay(now).map(({ machine }) => machine)
  assert.deepEqual(machines, ['boots', 'boots slowly'])
  assert.equal(latest.all().length, 7)
})
