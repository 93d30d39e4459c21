/**
 * Kills `netimage serve` again and again, at any step of its work, in roll-outs of three images to 20 machines
 * on the loopback interface. It ends with an error if a machine gets files of two generations, if an attempt is
 * forgotten or counted twice, or if a roll-out ends otherwise than without kills.
 *
 *     node bench/serve-killed.ts [kills] [first seed]
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'

import { addFleetImages } from '../test/serve/support/fleet-images.ts'
import { fleetWaves, randomPlans, rollOutToFleet } from '../test/serve/support/fleet-rollouts.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { measured, print } from './report.ts'

const [wanted, firstSeed] = [process.argv[2] ?? '1000', process.argv[3] ?? '1'].map(Number)
assert.ok(wanted !== undefined && firstSeed !== undefined)
const machines = 20

await measured(async () => {
  const workspace = makeWorkspace('killed', existsSync('/dev/shm') ? '/dev/shm' : tmpdir())
  const prepared = workspace.path('prepared')
  try {
    const images = await addFleetImages(workspace, prepared, 2)
    const [old, ...others] = images
    assert.ok(old)
    let kills = 0
    for (let seed = firstSeed; kills < wanted; seed++) {
      const workers = seed % 3 === 0 ? 2 : 0
      const plans = randomPlans(others, machines, seed)
      const waves = fleetWaves(machines)
      const request = { prepared, images, machines, seed, old, plans, waves, workers }
      const calm = await rollOutToFleet({ ...request, state: workspace.path(`${seed}-calm`) })
      const state = workspace.path(`${seed}-killed`)
      const killed = await rollOutToFleet({ ...request, state, killOneIn: 12 })
      assert.deepEqual([killed.rollouts, killed.ends], [calm.rollouts, calm.ends], `seed ${seed}`)
      kills += killed.kills
      print(`${kills} kills; seed ${seed}: ${killed.kills} kills, ${killed.rollouts.join(', ')}`)
    }
  } finally {
    workspace.remove()
  }
})
