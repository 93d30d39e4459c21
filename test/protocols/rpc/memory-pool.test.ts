import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMemoryPool } from '../../../src/protocols/rpc/memory-pool.ts'

suite('the memory for calls and replies', () => {
  test('is used again', () => {
    const pool = createMemoryPool()
    for (const least of [0, 100, 16_384, 131_200, 2 ** 20 + 4096]) {
      const memory = pool.take(least)
      assert.ok(memory.bytes.length >= least)
      assert.equal(memory.view.byteLength, memory.bytes.length)
      assert.notEqual(pool.take(least), memory)
      pool.giveBack(memory)
      assert.equal(pool.take(least), memory)
    }
  })

  test('is not kept if it is more than a server needs', () => {
    const pool = createMemoryPool()
    const all = Array.from({ length: 64 }, () => pool.take(2 ** 20))
    for (const memory of all) pool.giveBack(memory)
    const kept = all.map(() => pool.take(2 ** 20)).filter((memory) => all.includes(memory))
    const bytes = kept.reduce((sum, memory) => sum + memory.bytes.length, 0)
    assert.ok(kept.length > 0 && bytes <= 2 ** 24, `${bytes} bytes were kept`)
  })

  test('has room for a single reply of any size', () => {
    const pool = createMemoryPool()
    const memory = pool.take(2 ** 22)
    assert.equal(memory.bytes.length, 2 ** 22)
    pool.giveBack(memory)
    assert.notEqual(pool.take(2 ** 22), memory)
  })
})
