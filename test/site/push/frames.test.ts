// Frames come out as they went in, however the stream is cut into chunks, and nothing else comes out.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createByteReader } from '../../../src/nix/byte-reader.ts'
import { encodeFrame, longestBody, readFrame, type Frame } from '../../../src/site/push/frames.ts'

const frame: fc.Arbitrary<Frame> = fc.record(
  {
    kind: fc.constantFrom('message', 'data'),
    body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  },
  { noNullPrototype: true },
)

class Broken extends Error {
  readonly field: string | undefined
  constructor(why: string, { field }: { field?: string } = {}) {
    super(why)
    this.field = field
  }
}

/** All frames until the end or an error. @param sizes of the chunks, used again and again */
async function readAll(stream: Buffer, sizes: readonly number[]) {
  function* chunks() {
    for (let at = 0, turn = 0; at < stream.length; turn++) {
      const size = sizes[turn % sizes.length] ?? 1
      yield Buffer.from(stream.subarray(at, at + size))
      at += size
    }
  }
  const why = (text: string, details?: { field?: string }) => new Broken(text, details)
  const reader = createByteReader(chunks(), { left: Infinity }, why)
  const frames: Frame[] = []
  try {
    for (let next = await readFrame(reader); next; next = await readFrame(reader)) {
      frames.push({ kind: next.kind, body: Buffer.from(next.body) })
    }
    return { frames }
  } catch (error) {
    assert.ok(error instanceof Broken, String(error))
    return { frames, error }
  }
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 })

test('frames come out of a stream as they went in, in chunks of any size', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 6 }), sizes, async (frames, cuts) => {
      const stream = Buffer.concat(frames.map(encodeFrame))
      assert.deepEqual(await readAll(stream, cuts), { frames })
    }),
  )
})

test('a stream that ends within a frame is cut off, and the frames before it are whole', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(frame, { minLength: 1, maxLength: 5 }),
      sizes,
      fc.nat(),
      async (frames, cuts, at) => {
        const encoded = frames.map(encodeFrame)
        const stream = Buffer.concat(encoded)
        const end = at % stream.length
        const read = await readAll(stream.subarray(0, end), cuts)
        let [whole, left] = [0, end]
        for (const { length } of encoded) {
          if (left < length) break
          left -= length
          whole++
        }
        assert.deepEqual(read.frames, frames.slice(0, whole))
        assert.equal(read.error?.field, left === 0 ? undefined : 'end')
      },
    ),
  )
})

test('any bytes are frames, or are refused without an allocation of what they claim', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), sizes, async (bytes, cuts) => {
      const { frames, error } = await readAll(Buffer.from(bytes), cuts)
      const read = Buffer.concat(frames.map(encodeFrame))
      assert.deepEqual(read, Buffer.from(bytes.subarray(0, read.length)))
      assert.equal(error === undefined, read.length === bytes.length)
    }),
  )
  const head = Buffer.from('D....')
  head.writeUInt32BE(longestBody.data + 1, 1)
  assert.match(String((await readAll(head, [9])).error), /a data of 1048577 bytes is too long/)
  assert.throws(
    () => encodeFrame({ kind: 'data', body: Buffer.alloc(longestBody.data + 1) }),
    RangeError,
  )
})

test('what is no frame is shown', async () => {
  const { error } = await readAll(Buffer.from('Welcome to lab2\n'), [100])
  assert.equal(error?.message, String.raw`it is no frame: "Welcome to lab2\n"`)
})
