// What a server finds of earlier runs.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openLearnt } from '../../src/serve/learnt.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

test('addresses and processors that are none are not taken from a damaged database', async () => {
  const state = freshName()
  {
    await using first = new AsyncDisposableStack()
    const { facts } = openLearnt(state, assert.ifError, first)
    facts.keep('address', '10.0.0.7', '52:54:00:00:00:07')
    facts.keep('address', '10.0.0.8', '../../52:54:00')
    facts.keep('processor', '52:54:00:00:00:07', '7')
    facts.keep('processor', '52:54:00:00:00:08', 'x')
  }
  await using second = new AsyncDisposableStack()
  const { addresses, processors } = openLearnt(state, assert.ifError, second)
  assert.deepEqual([...addresses], [['10.0.0.7', '52:54:00:00:00:07']])
  assert.deepEqual([...processors], [['52:54:00:00:00:07', 7]])
})
