// Which machines that nobody knows may get a layer.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createStrangerLayers } from '../../src/serve/stranger-layers.ts'
import { temporaryDirectory } from '../support/temporary.ts'

test('a machine that is known gets a layer, also if strangers have all places', () => {
  const state = temporaryDirectory()
  mkdirSync(join(state, 'layers'))
  const told: string[] = []
  const mayHaveLayer = createStrangerLayers({
    state,
    isKnown: (machine) => machine === 'known',
    onError: ({ code }) => told.push(code),
    most: 2,
  })
  const asked = ['one', 'known', 'two', 'three', 'one', 'four', 'known']
  assert.deepEqual(asked.map(mayHaveLayer), [true, true, true, false, true, false, true])
  assert.deepEqual(told, ['too-many-machines'])
})

test('a machine that was refused is looked for again only after a while', (context) => {
  const state = temporaryDirectory()
  mkdirSync(join(state, 'layers'))
  let now = 0
  context.mock.method(performance, 'now', () => now)
  const looks: string[] = []
  let known = ''
  const mayHaveLayer = createStrangerLayers({
    state,
    isKnown(machine) {
      looks.push(machine)
      return machine === known
    },
    onError: () => {},
    most: 1,
  })
  assert.deepEqual(['one', 'two', 'two', 'three', 'two'].map(mayHaveLayer), [
    true,
    ...[false, false, false, false],
  ])
  assert.deepEqual(looks, ['one', 'two', 'three'])
  known = 'two'
  now = 1000
  assert.equal(mayHaveLayer('two'), true)
})
