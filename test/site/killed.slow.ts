// The same as the short test: 500 updates of 20 machines.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { updateFleet } from './support/fleet.ts'

const freshName = freshNames(temporaryDirectory())

test('500 updates of 20 machines end the same whether the server is killed or not', async () => {
  const fleet = { machines: 20, updates: 25, seed: 2 }
  const calm = await updateFleet({ ...fleet, state: freshName(), killOneIn: undefined })
  const killed = await updateFleet({ ...fleet, state: freshName(), killOneIn: 250 })
  assert.ok(killed.kills >= 20, String(killed.kills))
  assert.deepEqual(killed.ends, calm.ends)
})
