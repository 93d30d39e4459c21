// The addon's decoders give what xz and zstd were given, and refuse all that is damaged.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { Chunks } from '../../src/nix/byte-reader.ts'
import { decompress } from '../../src/nix/decompress.ts'
import { nativeDecoders, type NativeFormat } from '../../src/nix/native-decoder.ts'
import { buildAddon } from '../protocols/support/addon.ts'
import { inPieces, pieceSizes } from '../support/chunks.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { filterThrough } from '../support/programs.ts'

const addon = buildAddon()
const open = nativeDecoders(addon)

async function decode(stream: Chunks, format: NativeFormat): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of decompress(stream, format, undefined, open))
    parts.push(Buffer.from(part))
  return Buffer.concat(parts)
}

const encode = (format: NativeFormat, input: Buffer, ...args: string[]) =>
  filterThrough(format, ['-q', '-c', ...args], { input })

/** More than the decoders write at once, in parts that compress and parts that do not. */
const large = Buffer.concat([
  randomBytes(400_000),
  Buffer.alloc(1_000_000, 'text, '),
  randomBytes(9),
])
const small = Buffer.from(Array.from({ length: 12 }, (_, line) => `line ${line * 7919}\n`).join(''))

for (const format of ['xz', 'zstd'] as const) {
  suite(`${format} by the addon`, () => {
    test('the system has the library', () => {
      const decoder = open(format)
      assert.ok(decoder)
      decoder.close()
    })

    test('content of every kind, in pieces of any size', async () => {
      for (const content of [Buffer.alloc(0), Buffer.from('x'), small, large]) {
        const stream = await encode(format, content)
        await fc.assert(
          fc.asyncProperty(pieceSizes, async (sizes) => {
            assert.ok((await decode(inPieces(stream, sizes), format)).equals(content))
          }),
          { numRuns: 5 },
        )
      }
    })

    test('a whole stream at once', async () => {
      const stream = await encode(format, large, format === 'xz' ? '--check=none' : '--no-check')
      const decoder = open(format)
      assert.ok(decoder)
      const parts = [...decoder.decode(stream).map((part) => Buffer.from(part))]
      assert.ok(Buffer.concat(parts).equals(large))
      assert.deepEqual([...decoder.end()], [])
      decoder.close()
    })

    test('several streams, one after another', async () => {
      const streams = await Promise.all(
        [small, Buffer.alloc(0), large].map((c) => encode(format, c)),
      )
      assert.ok((await decode(streams, format)).equals(Buffer.concat([small, large])))
    })

    test('cut off at any byte, it is an error', async () => {
      const stream = await encode(format, small)
      for (let end = 0; end < stream.length; end++) {
        await assert.rejects(
          decode([stream.subarray(0, end)], format),
          netimageError('bad-compression'),
          `cut at ${end}`,
        )
      }
    })

    test('with any byte changed, it is an error or the same output', async () => {
      const stream = await encode(format, small)
      for (let at = 0; at < stream.length; at++) {
        const changed = Buffer.from(stream)
        changed[at] = (changed[at] ?? 0) ^ (1 << ((at * 5) % 8))
        const output = await decode([changed], format).catch((error: unknown) => {
          assertError(error, 'bad-compression')
          return small
        })
        assert.ok(output.equals(small), `byte ${at}`)
      }
    })

    test('the reader may stop early, and what was decoded until then is right', async () => {
      const stream = await encode(format, large)
      for await (const part of decompress([stream], format, undefined, open)) {
        assert.ok(part.equals(large.subarray(0, part.length)))
        break
      }
    })
  })
}

test('xz: checks and filters of other kinds', async () => {
  for (const option of ['--check=none', '--check=crc32', '--check=sha256', '--x86', '--arm']) {
    const stream = await encode('xz', large, option, '--lzma2=preset=0')
    assert.ok((await decode([stream], 'xz')).equals(large), option)
  }
})

test('windows may be as large as with the other decoders', async () => {
  const zstd = await encode('zstd', large, '--long=27')
  assert.ok((await decode([zstd], 'zstd')).equals(large))
  const xz = await encode('xz', large, '--lzma2=preset=0,dict=128MiB')
  assert.ok((await decode([xz], 'xz')).equals(large))
})

test('the addon refuses what is no decoder, no buffer or no position, and a decoder that is closed', () => {
  const { openDecoder, decode, closeDecoder } = createRequire(import.meta.url)(addon)
  const decoder = openDecoder('xz')
  const [input, output, counts] = [Buffer.alloc(9), Buffer.alloc(9), Buffer.alloc(8)]
  for (const bad of [undefined, 1, {}, [], Buffer.alloc(9)]) {
    assert.throws(() => decode(bad, input, 0, output, counts), /^Error: decode wants/)
    assert.throws(() => closeDecoder(bad), /^Error: closeDecoder wants/)
  }
  assert.throws(() => decode(decoder, 'text', 0, output, counts), /decode wants/)
  assert.throws(() => decode(decoder, input, 10, output, counts), /decode wants/)
  assert.throws(() => decode(decoder, input, 0, {}, counts), /decode wants/)
  assert.throws(() => decode(decoder, input, 0, output, Buffer.alloc(7)), /decode wants/)
  assert.equal(openDecoder('other'), undefined)
  closeDecoder(decoder)
  closeDecoder(decoder)
  assert.throws(() => decode(decoder, input, 0, output, counts), /the decoder is closed/)
})

test('without the addon there are the other decoders', () => {
  assert.equal(nativeDecoders('/nowhere.node')('xz'), undefined)
})
