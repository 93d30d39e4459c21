// The program zstd makes the frames. decompress.test.ts shows that they decode.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import fc from 'fast-check'
import { NetimageError } from '../../src/errors.ts'
import { createByteReader } from '../../src/nix/byte-reader.ts'
import { zstdFrame, zstdFrames } from '../../src/nix/zstd-frames.ts'
import { inPieces, pieceSizes } from '../support/chunks.ts'
import type { ErrorDetails } from '../../src/errors.ts'
import { netimageError } from '../support/errors.ts'
import { runInLittleMemory } from '../support/limited-memory.ts'
import { filterThrough } from '../support/programs.ts'

const zstd = (input: Buffer, ...args: string[]) =>
  filterThrough('zstd', ['-q', '-c', ...args], { input })

function readerOf(pieces: Iterable<Buffer>) {
  const broken = (why: string, details: ErrorDetails = {}) =>
    new NetimageError('bad-compression', why, { details })
  return createByteReader(pieces, { left: Infinity }, broken)
}

/** The frames of a stream, each concatenated from its parts. */
async function frames(pieces: Iterable<Buffer>): Promise<Buffer[]> {
  const found: Buffer[] = []
  for await (const frame of zstdFrames(readerOf(pieces), () => undefined)) {
    const parts: Buffer[] = []
    for await (const part of frame) parts.push(Buffer.from(part))
    found.push(Buffer.concat(parts))
  }
  return found
}

async function assertRefused(
  stream: Buffer,
  details: ErrorDetails,
  cuts = [[1 << 20], [1], [3]],
): Promise<void> {
  for (const sizes of cuts) {
    const pieces = inPieces(stream, sizes)
    await assert.rejects(frames(pieces), netimageError('bad-compression', details))
  }
}

function skippable(content: Buffer, variant = 0): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(0x184d2a50 + variant)
  header.writeUInt32LE(content.length, 4)
  return Buffer.concat([header, content])
}

interface FrameParts {
  /** The window descriptor; none if the frame is a single segment. */
  window?: number
  dictionaryBytes?: 0 | 1 | 2 | 4
  sizeBytes?: 0 | 1 | 2 | 4 | 8
  checksum?: boolean
}

/** A frame with one raw block of three bytes, by RFC 8878, section 3.1.1. */
function makeFrame({ window, dictionaryBytes = 0, sizeBytes = 0, checksum = false }: FrameParts) {
  const single = window === undefined
  const sizeFlag = { 0: 0, 1: 0, 2: 1, 4: 2, 8: 3 }[sizeBytes]
  const dictionaryFlag = { 0: 0, 1: 1, 2: 2, 4: 3 }[dictionaryBytes]
  const descriptor = (sizeFlag << 6) | (single ? 32 : 0) | (checksum ? 4 : 0) | dictionaryFlag
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...(single ? [] : [window])]),
    Buffer.alloc(dictionaryBytes, 0xd1),
    Buffer.alloc(sizeBytes),
    Buffer.from([(3 << 3) | 1, 0, 0]),
    Buffer.from('abc'),
    Buffer.alloc(checksum ? 4 : 0, 0xc5),
  ])
}

/** By their special property. */
const samples = new Map<string, Buffer>()

before(async () => {
  const noise = randomBytes(300_000)
  const text = Buffer.alloc(400_000, 'some text that compresses, ')
  const mixed = Buffer.concat([text, noise, Buffer.alloc(200_000)])
  const made: Record<string, Promise<Buffer>> = {
    'nothing in it': zstd(Buffer.alloc(0)),
    'nothing in it, and no checksum': zstd(Buffer.alloc(0), '--no-check'),
    'one byte': zstd(Buffer.from('x')),
    'raw blocks': zstd(noise),
    'run-length blocks': zstd(Buffer.alloc(500_000)),
    'a checksum': zstd(mixed, '--check'),
    'no checksum': zstd(mixed, '--no-check'),
    'the best compression': zstd(mixed, '-19'),
    'a content size of one byte': zstd(noise.subarray(0, 200), '--stream-size=200'),
    'a content size of two bytes': zstd(noise.subarray(0, 5000), '--stream-size=5000'),
    'a content size of four bytes': zstd(mixed, `--stream-size=${mixed.length}`),
    'a window of 128 MiB': zstd(mixed, '--long=27'),
    'blocks of several threads': zstd(mixed, '-T2', '-B100000'),
  }
  for (const [name, frame] of Object.entries(made)) samples.set(name, await frame)
})

function sample(name: string): Buffer {
  const frame = samples.get(name)
  assert.ok(frame, name)
  return frame
}

test('a frame of any kind is found whole, with chunks of any size', async () => {
  for (const [name, frame] of samples) {
    const few = frame.length < 10_000 ? [[1], [2], [5]] : [[1001]]
    for (const sizes of [[1 << 20], [100_003], ...few]) {
      const found = await frames(inPieces(frame, sizes))
      assert.equal(found.length, 1, name)
      assert.ok(found[0]?.equals(frame), name)
    }
  }
})

test('a frame with any header that the format allows is found whole', async () => {
  const next = makeFrame({ window: 0 })
  for (const dictionaryBytes of [0, 1, 2, 4] as const) {
    for (const checksum of [false, true]) {
      const made = [
        ...([1, 2, 4, 8] as const).map((sizeBytes) =>
          makeFrame({ dictionaryBytes, sizeBytes, checksum }),
        ),
        ...([0, 2, 4, 8] as const).map((sizeBytes) => {
          return makeFrame({ window: 0, dictionaryBytes, sizeBytes, checksum })
        }),
      ]
      for (const one of made) {
        const found = await frames(inPieces(Buffer.concat([one, next]), [3]))
        assert.deepEqual(found, [one, next])
      }
    }
  }
})

test('several frames are separated, and skippable frames are left out', async () => {
  const parts = fc.array(
    fc.oneof(
      fc.constantFrom(
        'nothing in it',
        'nothing in it, and no checksum',
        'one byte',
        'run-length blocks',
        'a checksum',
        'no checksum',
        'a content size of two bytes',
      ),
      fc.record({ content: fc.uint8Array({ maxLength: 300 }), variant: fc.nat({ max: 15 }) }),
    ),
    { minLength: 1, maxLength: 8 },
  )
  await fc.assert(
    fc.asyncProperty(parts, pieceSizes, async (parts, sizes) => {
      const stream = parts.map((part) =>
        typeof part === 'string'
          ? sample(part)
          : skippable(Buffer.from(part.content), part.variant),
      )
      const expected = parts.flatMap((part) => (typeof part === 'string' ? [sample(part)] : []))
      const found = await frames(inPieces(Buffer.concat(stream), sizes))
      assert.equal(found.length, expected.length)
      expected.forEach((frame, index) => assert.ok(found[index]?.equals(frame)))
    }),
    { numRuns: 20 },
  )
})

test('the content of a skippable frame may look like a frame', async () => {
  const frame = sample('one byte')
  const stream = Buffer.concat([skippable(frame), frame, skippable(skippable(frame))])
  assert.equal((await frames(inPieces(stream, [7]))).length, 1)
})

suite('a stream is refused', () => {
  test('that is empty', () => assertRefused(Buffer.alloc(0), { field: 'end' }))

  test('that is not zstd', async () => {
    await assertRefused(Buffer.from('<html></html>'), { field: 'magic' })
    await assertRefused(Buffer.from([0x28, 0xb5, 0x2f, 0xfe, 0, 0]), { field: 'magic' })
    // Frames of early zstd versions with another format.
    await assertRefused(Buffer.from([0x27, 0xb5, 0x2f, 0xfd, 0, 0]), { field: 'magic' })
  })

  test('that is cut off at any byte', async () => {
    for (const name of ['nothing in it', 'one byte', 'a content size of one byte']) {
      const frame = sample(name)
      for (let end = 1; end < frame.length; end++) {
        const again = Buffer.concat([frame, frame.subarray(0, end)])
        await assertRefused(frame.subarray(0, end), { field: 'end' }, [[1 << 20], [40]])
        await assertRefused(again, { field: 'end' }, [[100]])
      }
    }
    const skipped = skippable(Buffer.from('content'))
    for (let end = 1; end < skipped.length; end++) {
      await assertRefused(skipped.subarray(0, end), { field: 'end' })
    }
  })

  test('with other bytes after it', async () => {
    const frame = sample('one byte')
    for (const rest of [Buffer.alloc(4), Buffer.from('trailing'), Buffer.alloc(512)]) {
      await assertRefused(Buffer.concat([frame, rest]), { field: 'magic' })
    }
    for (const rest of [Buffer.alloc(1), Buffer.alloc(3)]) {
      await assertRefused(Buffer.concat([frame, rest]), { field: 'end' })
    }
  })

  test('with a block of a reserved type', async () => {
    const frame = Buffer.from(sample('nothing in it'))
    // Magic, descriptor, window or content size, and then the header of the first block.
    frame[6] = (frame[6] ?? 0) | 6
    await assertRefused(frame, { field: 'block' })
  })

  test('that needs a window of more than 128 MiB', async () => {
    const stream = await zstd(Buffer.alloc(1000), '--long=28', '--ultra')
    await assertRefused(stream, { field: 'zstd', actual: 2 ** 28 })
    for (let descriptor = 0; descriptor < 256; descriptor++) {
      // RFC 8878, section 3.1.1.1.2
      const base = 2 ** (10 + (descriptor >> 3))
      const window = base + (base / 8) * (descriptor & 7)
      const made = makeFrame({ window: descriptor })
      if (window > 2 ** 27) await assertRefused(made, { field: 'zstd', actual: window })
      else assert.equal((await frames([made])).length, 1)
    }
  })

  test('with a single segment of more than 128 MiB', async () => {
    for (const contentSize of [2n ** 27n + 1n, 2n ** 40n, 2n ** 64n - 1n]) {
      const header = Buffer.alloc(13)
      header.writeUInt32LE(0xfd2fb528)
      header.writeUInt8(0b1110_0000, 4)
      header.writeBigUInt64LE(contentSize, 5)
      await assertRefused(Buffer.concat([header, Buffer.alloc(16)]), {
        ...{ field: 'zstd', actual: Number(contentSize) },
      })
    }
  })
})

test('all available bytes are yielded at once', async () => {
  // If the decoder can decode a part already, that part must not wait for the next chunk.
  let given = 0
  let taken = 0
  function* counted(): Generator<Buffer> {
    for (const piece of inPieces(sample('raw blocks'), [1000])) {
      assert.ok(given - taken < 16, `${given - taken} bytes are held back`)
      given += piece.length
      yield piece
    }
  }
  for await (const part of zstdFrame(readerOf(counted()))) taken += part.length
  assert.equal(taken, given)
})

test('memory does not grow with the size that a skippable frame claims', async () => {
  const program = join(import.meta.dirname, 'support/unbounded-program.ts')
  assert.equal(Number(await runInLittleMemory(program, ['zstd-skippable'])), 0)
})
