// `netimage serve` is killed again and again while machines boot from it and are updated. If several
// processes serve the machines, each of them kills all at any step of its work. Each machine
// checks that its loader, kernel, initrd and root are of one generation, and that each of its boots counts
// once.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { modelDirectory } from '../roots/support/layer-model.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { addFleetImages } from './support/fleet-images.ts'
import { updateFleet } from './support/fleet.ts'
import { createServedFleet } from './support/served-fleet.ts'

const [machines, updates, seed] = [6, 2, 2]
const chosen = process.env['NETIMAGE_TEST_WORKERS']

test('machines that boot by HTTP and NFS come to the same generations as without kills', async () => {
  const directory = modelDirectory()
  const workspace = makeWorkspace('fleet', directory)
  const prepared = workspace.path('state')
  const images = await addFleetImages(workspace, prepared, updates)
  async function update(name: string, killOneIn: number, workers: number) {
    const state = join(directory, name)
    execFileSync('cp', ['-a', prepared, state])
    const fleet = await createServedFleet(state, images, Number(chosen ?? workers))
    return await updateFleet({ state, machines, updates, seed, killOneIn, fleet })
  }
  const calm = await update('calm', Infinity, 0)
  assert.equal(calm.kills, 0)
  const killed = await update('killed', 20, 2)
  assert.ok(killed.kills > 5, String(killed.kills))
  assert.deepEqual(killed.ends, calm.ends)
})
