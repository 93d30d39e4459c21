// A disk that has no room for going back to a state: nothing is copied, and the layer stays as it is.

import assert from 'node:assert/strict'
import fs, { readdirSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { takeSnapshot } from '../../src/roots/snapshots.ts'
import { nameBefore, putBack } from '../../src/roots/state-snapshots.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeImage, put, within } from './support/stored-layers.ts'

const freshName = freshNames(temporaryDirectory())
const { statfsSync } = fs

const cases = {
  'cannot clone, and has only the room for the server': { cloning: 'EOPNOTSUPP', free: 0 },
  'has no room for a clone': { cloning: 'ENOSPC', free: 2 ** 20 },
  'has no room for a clone of this user': { cloning: 'EDQUOT', free: 2 ** 20 },
}

for (const [what, { cloning, free }] of Object.entries(cases)) {
  test(`a machine does not go back to a state if the disk ${what}`, async (context) => {
    const [state, image] = [freshName(), makeImage(freshName())]
    const layer = layerOf(state, '10.0.0.7')
    await within([state, layer.machine, image], (system) => put(system, 'file', 'text'))
    await takeSnapshot(layer, nameBefore(2))
    const names = () => [layer.directory, join(layer.directory, 'snapshots')].map(list)
    const before = names()

    context.after(() => {
      mock.restoreAll()
      syncBuiltinESMExports()
    })
    const asked = mock.method(promises, 'copyFile', () =>
      Promise.reject(Object.assign(new Error(cloning), { code: cloning })),
    )
    mock.method(fs, 'statfsSync', (path: string) =>
      Object.assign(statfsSync(path), { bsize: 4096, bfree: free, bavail: free }),
    )
    syncBuiltinESMExports()
    await assert.rejects(putBack(layer, 2, 'left-after-attempt-2'), netimageError('disk-full'))
    assert.equal(asked.mock.callCount(), 1)
    assert.deepEqual(names(), before)
  })
}

const list = (directory: string) => readdirSync(directory)
