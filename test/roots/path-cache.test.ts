// Which tables of store paths stay in memory.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rowWidth, type ImageTable } from '../../src/roots/image-table.ts'
import { createPathCache, type KeptTable } from '../../src/roots/path-cache.ts'

/** Uses tables with these numbers of nodes one after the other. @returns how many were made */
function makeTables(most: number, used: readonly number[]): number {
  const cache = createPathCache(most)
  const kept = new Map<number, KeptTable>()
  let made = 0
  for (const nodes of used) {
    const known = kept.get(nodes)
    if (known) {
      cache.uses(known)
      continue
    }
    made++
    kept.set(
      nodes,
      cache.keep(tableOf(nodes), () => void kept.delete(nodes)),
    )
  }
  return made
}

function tableOf(nodes: number): ImageTable {
  const entries = { node: new Float64Array(), end: new Float64Array(), names: Buffer.alloc(0) }
  return { rows: new Float64Array(nodes * rowWidth), entries }
}

const rounds = <T>(values: readonly T[]) => Array.from({ length: 10 }, () => values).flat()

test('the table that was not used for longest is dropped if the room is used up', () => {
  assert.equal(makeTables(12, [3, 4, 5, 3, 4, 5]), 3)
  // Each use of 3, 4 and 5 comes right after the table was dropped.
  assert.equal(makeTables(11, [3, 4, 5, 3, 4, 5]), 6)
  // 4 is dropped for 5, because 3 was used again.
  assert.equal(makeTables(11, [3, 4, 3, 5, 3]), 3)
})

test('two tables are kept whatever their sizes', () => {
  assert.equal(makeTables(10, rounds([100, 1])), 2)
  assert.equal(makeTables(10, rounds([100, 200])), 2)
  assert.equal(makeTables(1, rounds([1, 2])), 2)
})

test('a table that is larger than the room does not push out all others', () => {
  assert.equal(makeTables(10, rounds([100, 1, 2])), 3)
  assert.equal(makeTables(10, rounds([8, 1, 3])), 3)
})

test('a table for which somebody comes again is dropped after others, but only until then', () => {
  let now = 0
  const cache = createPathCache(10, () => now)
  let dropped: string[] = []
  const keep = (name: string, isAwaited?: boolean) =>
    cache.keep(tableOf(5), () => void dropped.push(name), isAwaited)
  const takeDropped = () => {
    const names = dropped
    dropped = []
    return names
  }
  const awaited = keep('awaited', true)
  keep('a')
  keep('b')
  assert.deepEqual(takeDropped(), ['a'])
  keep('also awaited', true)
  assert.deepEqual(takeDropped(), ['b'])
  // There is no other.
  keep('c')
  assert.deepEqual(takeDropped(), ['awaited'])
  cache.uses(awaited)
  const used = keep('used', true)
  assert.deepEqual(takeDropped(), ['c'])
  cache.uses(used)
  keep('d')
  assert.deepEqual(takeDropped(), ['used'])
  now = 10_000
  keep('e')
  assert.deepEqual(takeDropped(), ['also awaited'])
})
