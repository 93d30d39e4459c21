// Several processes of one server have its images open, and each the layers of its own machines.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { isInUse } from '../../src/roots/store.ts'
import { removeUnused } from '../../src/site/images/remove-unused.ts'
import { assertError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { callerAt, identitiesOf } from './support/identities.ts'
import { openMachines, rootOf } from './support/machines.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const freshName = freshNames(temporaryDirectory())
const program = join(import.meta.dirname, 'support/layer-program.ts')
const [address, otherAddress] = ['10.0.0.7', '10.0.0.8']

test('a layer is open in one process only, and an image stays as long as any process has it', async (t) => {
  const { image } = await servedWorkspace('processes')
  const state = freshName()
  const collect = () => removeUnused(state, () => new Set())
  const other = fork(program, [state, image, address])
  t.after(() => other.kill('SIGKILL'))
  const answer = async () => await waitFor('the other process answers', once(other, 'message'))
  const makesFile = async (name: string) => {
    other.send(name)
    assert.deepEqual((await answer())[0], name)
  }
  await answer()
  await makesFile('first')
  const { inUse, removedImages } = await collect()
  assert.deepEqual([inUse.length, removedImages], [1, []])

  {
    await using opened = await openMachines(state, [image], identitiesOf())
    const { machines, errors } = opened
    await waitUntil('an error is told', () => {
      assert.equal(machines.nfsMachineOf(callerAt(address), '/srv/test'), 'busy')
      return errors.length > 0
    })
    const [layer] = listLayers(state)
    assert.ok(layer)
    assertError(errors[0], 'in-use', { file: layer.directory })
    await rootOf(opened, otherAddress)
    await makesFile('second')

    const ended = once(other, 'exit')
    other.kill('SIGKILL')
    await waitFor('the other process ends', ended)
    assert.equal(isInUse(layer), false)
    const { fileSystem } = await rootOf(opened, address)
    for (const name of ['first', 'second'])
      assert.notEqual(fileSystem.lookup(fileSystem.root, Buffer.from(name)), undefined, name)
    assert.deepEqual((await collect()).inUse, inUse)
  }
  assert.deepEqual((await collect()).removedImages, inUse)
})
