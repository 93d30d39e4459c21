// Roll-outs of `netimage serve` to machines that boot by HTTP and NFS. Each machine checks that its loader,
// kernel, initrd and root are of one generation, and that each of its boots counts once.

import assert from 'node:assert/strict'
import { before, suite, test } from 'node:test'
import { imageIds } from '../../src/site/images/site-image.ts'
import { modelDirectory } from '../roots/support/layer-model.ts'
import { netimageJson } from '../support/netimage.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { addFleetImages, type MarkedImage } from './support/fleet-images.ts'
import { comesUp, fleetWaves, randomPlans, rollOutToFleet } from './support/fleet-rollouts.ts'

const directory = modelDirectory()

suite('roll-outs to machines that boot by HTTP and NFS', { concurrency: 1 }, () => {
  let workspace: Workspace
  let prepared: string
  let images: MarkedImage[]

  before(async () => {
    workspace = makeWorkspace('rollouts', directory)
    prepared = workspace.path('prepared')
    images = await addFleetImages(workspace, prepared, 3)
  })

  /** In the order in which machines get them. */
  function imagesToGive() {
    const [a, b, c, d, e, f] = images
    return a && b && c && d && e && f ? { a, b, c, d, e, f } : assert.fail()
  }

  const good = (image: MarkedImage) => ({ image, isCanaryBad: false, does: new Map() })
  const collect = async (state: string) =>
    (await netimageJson(['site', 'gc', '--state', state]))['removedImages']

  // bench/serve-killed.ts does the same for 1,000 kills.
  test('end through kills of the server as without them', async () => {
    const { a, b } = imagesToGive()
    const [machines, seed] = [10, 1]
    const plans = randomPlans([b], machines, seed)
    const waves = fleetWaves(machines)
    const request = { prepared, images, machines, seed, old: a, plans, waves, workers: 0 }
    const calm = await rollOutToFleet({ ...request, state: workspace.path('calm') })
    assert.equal(calm.kills, 0)
    const killed = await rollOutToFleet({
      ...request,
      state: workspace.path('killed'),
      killOneIn: 25,
    })
    assert.ok(killed.kills > 5, String(killed.kills))
    assert.deepEqual([killed.ends, killed.rollouts], [calm.ends, calm.rollouts])
  })

  const lateEnds = [
    { what: 'and gets the newest image', isBroken: false },
    { what: 'and goes back to its own image if the newest is bad on it', isBroken: true },
  ]
  for (const { what, isBroken } of lateEnds) {
    test(`a machine may be off for four images, of which two are removed meanwhile, ${what}`, async () => {
      const { a, b, c, d, e, f } = imagesToGive()
      const state = workspace.path(`late-${isBroken}`)
      const machines = 5
      const crashes = { ...comesUp(e), behaviour: 'crash' } as const
      const last = { ...good(e), does: new Map(isBroken ? [[machines - 1, crashes]] : []) }
      const { ends } = await rollOutToFleet({
        ...{ state, prepared, images, machines, seed: 1, old: a, workers: 0 },
        ...{
          plans: [good(b), good(c), good(d), last],
          waves: [[0, 1, 2, 3, 4]],
          keep: 0,
          misses: 4,
        },
        async beforeReturn() {
          // Nobody has had the last one. A running machine keeps what it booted before.
          assert.deepEqual(await collect(state), [b.image, c.image, f.image].toSorted())
        },
      })
      const verdicts = [`${a.image} good`, `${e.image} ${isBroken ? 'bad' : 'good'}`]
      const tried = ends.at(-1)?.verdicts.filter((each) => !each.endsWith(' trial'))
      assert.deepEqual(tried, verdicts)
    })
  }

  test('leave 50 machines their files while a garbage collection removes what only others had', async () => {
    const { a, b, c, d, e, f } = imagesToGive()
    const state = workspace.path('gc')
    let [rollouts, removed]: [number, unknown] = [0, undefined]
    await rollOutToFleet({
      ...{ state, prepared, images, machines: 51, seed: 1, old: a, workers: 0 },
      // Only the first machine is of the group.
      ...{ plans: [good(b), good(c), good(d)], waves: [[0]], keep: 0, misses: 0 },
      async beforeReturn() {
        if (++rollouts === 3) removed = await collect(state)
      },
    })
    // The running machine keeps what it booted before.
    assert.deepEqual(removed, [b.image, e.image, f.image].toSorted())
    assert.deepEqual(imageIds(state), [a.image, c.image, d.image].toSorted())
  })
})
