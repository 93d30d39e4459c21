// Open databases of layers share the memory for their pages.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { openLayerDatabase, type LayerDatabase } from '../../src/roots/database.ts'
import { freshNames } from '../support/temporary.ts'
import { modelDirectory } from './support/layer-model.ts'

const freshName = freshNames(modelDirectory())

/** Kibibytes, as SQLite says. */
const cacheOf = (database: LayerDatabase) =>
  -Number(database.select('PRAGMA cache_size')[0]?.['cache_size'])

function open(): LayerDatabase {
  const directory = freshName()
  mkdirSync(directory)
  return openLayerDatabase(directory)
}

test('the more databases are open, the fewer pages each keeps in memory', () => {
  const opened: LayerDatabase[] = []
  const all = () => opened.map(cacheOf).reduce((sum, each) => sum + each, 0)
  for (const [count, each] of [
    [1, 4096],
    [32, 4096],
    [33, 2048],
    [64, 2048],
    [65, 1024],
  ] as const) {
    while (opened.length < count) opened.push(open())
    assert.deepEqual(new Set(opened.map(cacheOf)), new Set([each]), `${count} are open`)
    assert.ok(all() <= 128 * 1024)
  }
  for (const database of opened.splice(10)) database.close()
  assert.deepEqual(new Set(opened.map(cacheOf)), new Set([4096]))
  for (const database of opened) database.close()
})
