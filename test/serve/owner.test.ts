import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { workersFor } from '../../src/commands/serve-flags.ts'
import { ownerOf } from '../../src/serve/shard/owner.ts'

test('with one shard more, only machines of the new shard move', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: 20 }), (machine, shards) => {
      const [before, after] = [ownerOf(machine, shards), ownerOf(machine, shards + 1)]
      assert.ok(before >= 0 && before < shards)
      assert.ok(after === before || after === shards)
    }),
  )
})

test('each shard gets its part of the machines', () => {
  const machines = Array.from({ length: 1000 }, (_, index) => `52:54:00:00:0${index >> 8}:${index}`)
  const owners = machines.map((machine) => ownerOf(machine, 4))
  const counts = [0, 1, 2, 3].map((shard) => owners.filter((owner) => owner === shard).length)
  for (const count of counts) assert.ok(count > 150, String(counts))
})

test('there are shards for all processors but one, and none on two or fewer', () => {
  const processors = [1, 2, 3, 4, 16, 17, 128]
  assert.deepEqual(processors.map(workersFor), [0, 0, 2, 3, 15, 16, 16])
})
