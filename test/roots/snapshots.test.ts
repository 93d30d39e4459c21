// A snapshot that cannot be used is refused before it replaces what the machine has.

import assert from 'node:assert/strict'
import fs, { readdirSync, truncateSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { mock, test } from 'node:test'
import { copyFromSnapshot, restoreSnapshot, takeSnapshot } from '../../src/roots/snapshots.ts'
import { withLayer } from '../../src/roots/store.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeImage, put, read, within } from './support/stored-layers.ts'

const freshName = freshNames(temporaryDirectory())

const damage: Record<string, (file: string) => void> = {
  'of a newer netimage'(file) {
    const database = new DatabaseSync(file)
    database.exec('PRAGMA user_version = 99')
    database.close()
  },
  'whose database is damaged': (file) => truncateSync(file, 1500),
}

for (const [what, make] of Object.entries(damage)) {
  test(`a snapshot ${what} is refused, and the layer stays as it is`, async () => {
    const [state, image] = [freshName(), makeImage(freshName())]
    const layer = layerOf(state, '10.0.0.7')
    const inMachine = <T>(action: Parameters<typeof within<T>>[1]) =>
      within([state, layer.machine, image], action)
    await inMachine((system) => put(system, 'first', 'first'))
    await takeSnapshot(layer, 'first')
    await inMachine((system) => put(system, 'later', 'later'))
    const file = join(layer.directory, 'snapshots/first/layer.sqlite')
    make(file)
    const names = readdirSync(layer.directory)
    for (const restore of [
      () => restoreSnapshot(layer, 'first', assert.fail),
      () => withLayer(layer, () => copyFromSnapshot(layer, 'first')),
    ]) {
      await assert.rejects(restore(), netimageError('bad-state', { file }))
      assert.deepEqual(readdirSync(layer.directory), names)
    }
    assert.equal(await inMachine((system) => read(system, 'later')), 'later')
  })
}

test('others are served while the copy of a snapshot that cannot be restored is removed', async () => {
  const [state, image] = [freshName(), makeImage(freshName())]
  const layer = layerOf(state, '10.0.0.8')
  await within([state, layer.machine, image], (system) => {
    for (let index = 0; index < 200; index++) put(system, `file-${index}`, 'text')
  })
  await takeSnapshot(layer, 'first')
  const names = readdirSync(layer.directory)
  let [isFull, turns] = [false, 0]
  const count = () => {
    if (!isFull) return
    turns++
    setImmediate(count)
  }
  const { renameSync } = fs
  const full = mock.method(fs, 'renameSync', (from: string, to: string) => {
    if (basename(to) !== 'record.json') return renameSync(from, to)
    isFull = true
    setImmediate(count)
    throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  })
  syncBuiltinESMExports()
  try {
    const restore = withLayer(layer, () => copyFromSnapshot(layer, 'first'))
    await assert.rejects(restore, netimageError('disk-full'))
  } finally {
    isFull = false
    full.mock.restore()
    syncBuiltinESMExports()
  }
  assert.deepEqual(readdirSync(layer.directory), names)
  assert.ok(turns > 20, `${turns} turns`)
})
