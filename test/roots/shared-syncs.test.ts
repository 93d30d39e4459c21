// Stable writes that come together wait for one sync of their file, and none is answered before it.

import assert from 'node:assert/strict'
import fs, { mkdirSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

type Done = (error: Error | null) => void

/** The syncs that were begun, by the file that they sync. They end when the test calls `done`. */
const begun: { file: string; done: Done }[] = []
mock.method(fs, 'fdatasync', (file: number, done: Done) => {
  begun.push({ file: fs.readlinkSync(`/proc/self/fd/${file}`), done })
})
syncBuiltinESMExports()
const { createIndex } = await import('./support/tree-index.ts')
const { openLayer } = await import('./support/open-layer.ts')
const { put } = await import('./support/stored-layers.ts')

const freshName = freshNames(temporaryDirectory())

test('syncs of one file that are asked for together are one sync', async () => {
  const [tree, directory] = [freshName(), freshName()]
  for (const each of [tree, directory]) mkdirSync(each)
  const { fileSystem } = openLayer(directory, createIndex('tree', tree))
  const file = put(fileSystem, 'file', 'text')
  const name = file.toString(16)
  const ofData = () => begun.filter((sync) => sync.file.endsWith(`/${name}`))
  const answered: string[] = []
  const write = (text: string) => {
    fileSystem.write(file, 0, Buffer.from(text))
    void fileSystem.commit(file).then(() => answered.push(text))
  }
  const endAll = (syncs: typeof begun) => {
    for (const { done } of syncs.splice(0)) done(null)
  }
  const whileSyncing = async () => {
    while (ofData().length === 0 || begun.length < 2) await turn()
    assert.equal(ofData().length, 1)
  }

  write('one')
  write('two')
  await whileSyncing()
  // The kernel may have begun to write the data: the sync that runs is not for these.
  write('three')
  write('four')
  for (let turns = 0; turns < 10; turns++) await turn()
  assert.equal(ofData().length, 1)
  assert.deepEqual(answered, [])
  endAll(begun)
  while (answered.length < 2) await turn()
  await whileSyncing()
  assert.deepEqual(answered, ['one', 'two'])
  endAll(begun)
  while (answered.length < 4) await turn()
  assert.deepEqual(answered, ['one', 'two', 'three', 'four'])
})
