import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { createMemoryPool, type MemoryPool } from '../../../src/protocols/rpc/memory-pool.ts'
import { RecordReader, RecordTooLarge } from '../../../src/protocols/rpc/record.ts'

const most = 1000

function fragment(bytes: Uint8Array, isLast: boolean): Buffer {
  const mark = Buffer.alloc(4)
  mark.writeUInt32BE(bytes.length + (isLast ? 0x8000_0000 : 0))
  return Buffer.concat([mark, bytes])
}

/** A record in fragments that end at the positions in `cuts`. */
function fragmented(record: Uint8Array, cuts: readonly number[]): Buffer {
  const ends = cuts.map((cut) => cut % (record.length + 1)).sort((one, other) => one - other)
  const starts = [0, ...ends]
  return Buffer.concat(
    starts.map((start, index) =>
      fragment(record.subarray(start, starts[index + 1]), index === starts.length - 1),
    ),
  )
}

function takeAll(reader: RecordReader): Buffer[] {
  const records: Buffer[] = []
  for (let record = reader.next(); record; record = reader.next()) {
    records.push(Buffer.from(record))
  }
  return records
}

/** Spoils memory that is given back, and counts what is not given back. */
function spoilingPool(): { pool: MemoryPool; taken: () => number } {
  const pool = createMemoryPool()
  let taken = 0
  return {
    taken: () => taken,
    pool: {
      take(least) {
        taken++
        return pool.take(least)
      },
      giveBack(memory) {
        taken--
        memory.bytes.fill(0xee)
        pool.giveBack(memory)
      },
    },
  }
}

suite('record marking', () => {
  test('joins records from any fragments and pieces', () => {
    const record = fc.tuple(fc.uint8Array({ maxLength: 60 }), fc.array(fc.nat(), { maxLength: 5 }))
    const pieces = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 })
    fc.assert(
      fc.property(fc.array(record), pieces, (records, sizes) => {
        const stream = Buffer.concat(records.map(([bytes, cuts]) => fragmented(bytes, cuts)))
        const { pool, taken } = spoilingPool()
        const reader = new RecordReader(most, () => true, pool)
        const found: Buffer[] = []
        for (let at = 0, index = 0; at < stream.length; index++) {
          const size = sizes[index % sizes.length] ?? 1
          // A copy: the reader may use a piece only until the next record is asked for.
          const piece = Buffer.from(stream.subarray(at, at + size))
          if (reader.push(piece)) piece.fill(0xee)
          found.push(...takeAll(reader))
          piece.fill(0xee)
          at += size
        }
        assert.deepEqual(
          found,
          records.map(([bytes]) => Buffer.from(bytes)),
        )
        assert.equal(reader.isWithinRecord, false)
        assert.equal(taken(), 0)
      }),
    )
  })

  test('keeps received records until they are asked for', () => {
    const reader = new RecordReader(most)
    reader.push(Buffer.concat([fragment(Buffer.from('one'), true), Buffer.from([0x80])]))
    reader.push(Buffer.from([0, 0, 3]))
    reader.push(Buffer.from('two'))
    assert.deepEqual(takeAll(reader).map(String), ['one', 'two'])
  })

  test('refuses a record that is too large as soon as its length arrives', () => {
    for (const mark of ['7fffffff', 'ffffffff', '800003e9', '000003e9']) {
      const reader = new RecordReader(most)
      reader.push(Buffer.from(mark, 'hex'))
      assert.throws(() => reader.next(), RecordTooLarge)
    }
  })

  test('refuses a record whose fragments together are too large', () => {
    const reader = new RecordReader(most)
    reader.push(fragment(Buffer.alloc(600), false))
    assert.equal(reader.next(), undefined)
    reader.push(Buffer.from('80000191', 'hex'))
    assert.throws(() => reader.next(), RecordTooLarge)
  })

  test('takes no memory for what a client only announces', () => {
    let largest = 0
    const pool = createMemoryPool()
    const take = (least: number) => {
      largest = Math.max(largest, least)
      return pool.take(least)
    }
    const reader = new RecordReader(2 ** 20, () => true, { ...pool, take })
    reader.push(Buffer.concat([Buffer.from('80100000', 'hex'), Buffer.alloc(100)]))
    assert.equal(reader.next(), undefined)
    assert.equal(largest, 100)
    reader.push(Buffer.alloc(2 ** 20 - 100, 7))
    assert.equal(reader.next()?.[2 ** 20 - 1], 7)
    // It is copied only once more.
    assert.equal(largest, 2 ** 20)
  })

  test('needs no piece any more that lies within a record, and every other one', () => {
    const reader = new RecordReader(most)
    const record = fragment(Buffer.alloc(60, 7), true)
    const pieces = [0, 20, 40].map((at) => Buffer.from(record.subarray(at, at + 20)))
    const isCopied = [...pieces, record.subarray(60)].map((piece) => {
      const copied = reader.push(piece)
      if (!copied) assert.equal(reader.next()?.length, piece.length < 20 ? 60 : undefined)
      return copied
    })
    assert.deepEqual(isCopied, [false, true, true, false])
  })

  test('gives back the memory of a record that has not arrived', () => {
    const { pool, taken } = spoilingPool()
    const reader = new RecordReader(most, () => true, pool)
    reader.push(fragment(Buffer.alloc(600), false))
    assert.equal(reader.next(), undefined)
    assert.equal(taken(), 1)
    reader.free()
    assert.equal(taken(), 0)
  })

  test('copies little if there is a fragment for each byte, or if there are empty fragments', () => {
    // If each fragment copied all bytes before it, twice the bytes would cause four times the
    // copies.
    const [once, twice] = [100_000, 200_000].map((bytes) => bytesCopied(bytes))
    assert.ok(once !== undefined && twice !== undefined && once >= 100_000)
    assert.ok(twice < 2.5 * once, `${once} and ${twice} bytes were copied`)
  })
})

/**
 * The number of bytes that are copied for a record of `bytes` bytes with a fragment for each byte.
 */
function bytesCopied(bytes: number): number {
  const one = Buffer.concat([fragment(Buffer.alloc(0), false), fragment(Buffer.alloc(1), false)])
  const piece = Buffer.concat(Array.from({ length: 1000 }, () => one))
  let copied = 0
  const { copy } = Buffer.prototype
  const concat: typeof Buffer.concat = Buffer.concat.bind(Buffer)
  Buffer.prototype.copy = function (this: Buffer, ...args: Parameters<Buffer['copy']>) {
    const count = copy.apply(this, args)
    copied += count
    return count
  }
  Buffer.concat = (...args) => {
    const joined = concat(...args)
    copied += joined.length
    return joined
  }
  const reader = new RecordReader(bytes)
  for (let sent = 0; sent < bytes; sent += 1000) {
    reader.push(piece)
    assert.equal(reader.next(), undefined)
  }
  reader.push(fragment(Buffer.alloc(0), true))
  assert.equal(reader.next()?.length, bytes)
  Buffer.prototype.copy = copy
  Buffer.concat = concat
  return copied
}
