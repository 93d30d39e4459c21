// The server is killed again and again while many machines are updated. Each machine checks that its
// loader, kernel, initrd and root are of one generation, and that each of its boots counts once.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { updateFleet } from './support/fleet.ts'

const freshName = freshNames(temporaryDirectory())
const machines = 20
/** Of all machines together. The whole proof has 500, which takes longer than other tests may. */
const allUpdates = Number(process.env['NETIMAGE_TEST_UPDATES'] ?? 100)

test(`${machines} machines and ${allUpdates} updates end as without kills`, async () => {
  const fleet = { machines, updates: Math.ceil(allUpdates / machines), seed: 1 }
  const calm = await updateFleet({ ...fleet, state: freshName() })
  const killed = await updateFleet({ ...fleet, state: freshName(), killOneIn: 60 })
  assert.ok(killed.kills > 5, String(killed.kills))
  assert.deepEqual(killed.ends, calm.ends)
})
