// The layer of a machine goes back to a state, but the site cannot record it.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { NetimageError } from '../../src/errors.ts'
import { takeSnapshot } from '../../src/roots/snapshots.ts'
import { nameBefore } from '../../src/roots/state-snapshots.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { createPreparing } from '../../src/serve/prepare-layer.ts'
import type { Life, StateBack } from '../../src/site/life/life.ts'
import type { Site } from '../../src/site/site.ts'
import { makeImage, put, read, within } from '../roots/support/stored-layers.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'

/** @param before the generation from before which the state is wished */
function lifeWith(before: number): Life {
  return {
    machine,
    isChosen: true,
    current: 1,
    lastGood: 1,
    generations: [],
    attempts: [
      { number: 3, generation: 1, keptImages: [], startedAt: 0, from: 0, outcome: 'running' },
    ],
    stateBack: { to: 1, before, after: 2 },
  }
}

test('a state is not copied again while the site cannot record that the machine is back in it', async () => {
  const [state, image] = [freshName(), makeImage(freshName())]
  const layer = layerOf(state, machine)
  const inMachine = <T>(action: Parameters<typeof within<T>>[1]) =>
    within([state, machine, image], action)
  const contents = () => readdirSync(layer.directory).filter((name) => /^[0-9a-f]{32}$/.test(name))

  for (const generation of [2, 3]) {
    await inMachine((system) => put(system, 'file', `before ${generation}`))
    await takeSnapshot(layer, nameBefore(generation))
  }
  await inMachine((system) => put(system, 'file', 'now'))

  let life = lifeWith(2)
  let recorded: StateBack | undefined
  const cannot = () => Promise.reject(new NetimageError('disk-full', 'no room for the site'))
  let stateIsBack: Site['stateIsBack'] = cannot
  const prepare = createPreparing({
    ...{ state, onTold: () => assert.fail(), onError: assert.fail },
    site: { lifeOf: () => life, stateIsBack: (...given) => stateIsBack(...given) },
  })
  const prepared = async () => await prepare(machine, 3, new AbortController().signal)

  for (const wished of [2, 3]) {
    life = lifeWith(wished)
    await assert.rejects(prepared, netimageError('disk-full'))
    const copied = contents()
    for (let count = 0; count < 3; count++) {
      await assert.rejects(prepared, netimageError('disk-full'))
      assert.deepEqual(contents(), copied)
    }
  }
  stateIsBack = async (_machine, done) => void (recorded = done)
  await prepared()
  assert.deepEqual(recorded, life.stateBack)
  assert.equal(await inMachine((system) => read(system, 'file')), 'before 3')
})
