// The server is killed at any moment while machines are updated.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { updateFleet } from './support/fleet.ts'

const freshName = freshNames(temporaryDirectory())

test('machines come to the same generations whether the server is killed or not', async () => {
  const fleet = { machines: 4, updates: 3, seed: 5 }
  const calm = await updateFleet({ ...fleet, state: freshName() })
  const killed = await updateFleet({ ...fleet, state: freshName(), killOneIn: 25 })
  assert.ok(killed.kills > 0, String(killed.kills))
  assert.deepEqual(killed.ends, calm.ends)
})
