import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { NetimageError, type ErrorDetails } from '../../src/errors.ts'
import type { Compression } from '../../src/nix/compression.ts'
import { decompress } from '../../src/nix/decompress.ts'
import type { Chunks } from '../../src/nix/byte-reader.ts'
import { inPieces, pieceSizes } from '../support/chunks.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { filterThrough } from '../support/programs.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

type Compressed = Exclude<Compression, 'none'>
const compressions: Compressed[] = ['xz', 'zstd', 'bzip2', 'br', 'gzip']
/** The formats whose decoders notice that a stream was changed or cut off. */
const checking: Compressed[] = ['xz', 'zstd', 'bzip2', 'gzip']

const encode: Record<Compressed, (input: Buffer, ...args: string[]) => Promise<Buffer> | Buffer> = {
  xz: (input, ...args) => filterThrough('xz', ['-c', '-1', ...args], { input }),
  zstd: (input, ...args) => filterThrough('zstd', ['-q', '-c', ...args], { input }),
  bzip2: (input, ...args) => filterThrough('bzip2', ['-c', '-1', ...args], { input }),
  br: (input) => brotliCompressSync(input, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }),
  gzip: (input) => gzipSync(input),
}

async function collect(chunks: Chunks): Promise<Buffer> {
  const collected: Buffer[] = []
  for await (const chunk of chunks) collected.push(Buffer.from(chunk))
  return Buffer.concat(collected)
}

const decode = (stream: Buffer, compression: Compression, sizes = [65_536]) =>
  collect(decompress(inPieces(stream, sizes), compression))

/** The output before an error, and the error. */
async function attempt(stream: Chunks, compression: Compression) {
  const collected: Buffer[] = []
  let error: unknown
  try {
    for await (const chunk of decompress(stream, compression)) collected.push(Buffer.from(chunk))
  } catch (caught) {
    error = caught
  }
  if (error !== undefined) assertError(error, 'bad-compression')
  return { output: Buffer.concat(collected), error }
}

async function assertRefused(stream: Buffer, compression: Compression, details: ErrorDetails) {
  const { error } = await attempt(inPieces(stream, [1000]), compression)
  assertError(error, 'bad-compression', details)
}

const noiseIn = new Map<Compressed, Buffer>()

/** Noise, compressed once for all tests. It is larger than the amount that decoders read ahead. */
async function compressedNoise(compression: Compressed): Promise<Buffer> {
  const stream = noiseIn.get(compression) ?? (await encode[compression](contents.noise))
  noiseIn.set(compression, stream)
  return stream
}

const contents = {
  nothing: Buffer.alloc(0),
  'one byte': Buffer.from('x'),
  text: Buffer.from('some text that compresses\n'.repeat(20_000)),
  zeros: Buffer.alloc(1_200_000),
  noise: randomBytes(1_500_000),
}

test('without compression the output is the input', async () => {
  assert.ok((await decode(contents.noise, 'none')).equals(contents.noise))
})

for (const compression of compressions) {
  suite(compression, () => {
    test('decompresses content of every kind', async () => {
      for (const [name, content] of Object.entries(contents)) {
        const stream =
          name === 'noise' ? await compressedNoise(compression) : await encode[compression](content)
        assert.ok((await decode(stream, compression)).equals(content), name)
      }
    })

    test('decompresses chunks of any size', async () => {
      const content = Buffer.concat([randomBytes(1500), Buffer.alloc(3000, 'text, ')])
      const stream = await encode[compression](content)
      // bzip2 needs a process for each run.
      const numRuns = compression === 'bzip2' ? 5 : 10
      await fc.assert(
        fc.asyncProperty(pieceSizes, async (sizes) => {
          assert.ok((await decode(stream, compression, sizes)).equals(content))
        }),
        { numRuns },
      )
      assert.ok((await decode(stream, compression, [1])).equals(content))
    })

    test('refuses bytes of another format', async () => {
      const page = Buffer.from('<html><title>Sign in</title></html>\n'.repeat(100))
      const { error } = await attempt([page], compression)
      assertError(error, 'bad-compression')
      assert.match(error.details.field ?? '', new RegExp(`^(magic|${compression})$`))
    })

    test('fails with the error of its input', async () => {
      const stream = await compressedNoise(compression)
      function* failing(): Generator<Buffer> {
        yield stream.subarray(0, 100_000)
        throw new NetimageError('disk-full', 'this is the error')
      }
      await assert.rejects(
        () => collect(decompress(failing(), compression)),
        netimageError('disk-full', /^this is the error$/),
      )
    })

    test('ends its input and its program if the reader stops early', async () => {
      const stream = await compressedNoise(compression)
      const idle = await quiet()
      for (const leave of ['return', 'throw'] as const) {
        let open = true
        function* input(): Generator<Buffer> {
          try {
            for (const piece of inPieces(stream, [10_000])) yield piece
          } finally {
            open = false
          }
        }
        const reading = (async () => {
          for await (const chunk of decompress(input(), compression)) {
            assert.ok(chunk.length > 0)
            if (leave === 'throw') throw new Error('left')
            break
          }
        })()
        if (leave === 'throw') await assert.rejects(reading, /^Error: left$/)
        else await reading
        await assertQuiet(idle)
        assert.equal(open, false, 'the input was not ended')
      }
    })

    test('ends if the reader stops while the input waits', async () => {
      const stream = await compressedNoise(compression)
      const idle = await quiet()
      let wake = () => {}
      async function* stalled(): AsyncGenerator<Buffer> {
        yield stream.subarray(0, -1000)
        await new Promise<void>((resolve) => (wake = resolve))
      }
      for await (const chunk of decompress(stalled(), compression)) {
        assert.ok(chunk.length > 0)
        break
      }
      await assertQuiet(idle)
      wake()
    })

    test('ends if the reader stops before the first read', async () => {
      const stream = await encode[compression](contents.text)
      const idle = await quiet()
      const chunks = decompress(inPieces(stream, [1000]), compression)
      assert.ok(Symbol.asyncIterator in chunks)
      await chunks[Symbol.asyncIterator]().return?.()
      await assertQuiet(idle)
    })
  })
}

/** The open pipes after all programs have ended. */
async function quiet(): Promise<string[]> {
  await waitUntil('all programs have ended', () => !open().includes('ProcessWrap'))
  return open().filter((name) => name === 'PipeWrap')
}

/** Node closes the pipes in one of the next turns of the event loop. */
async function assertQuiet(idle: string[]): Promise<void> {
  await waitUntil('all pipes are closed', async () => (await quiet()).length === idle.length)
}

function open(): string[] {
  return process.getActiveResourcesInfo()
}

test('xz: the error says so if the input does not begin like xz, even if it is short', async () => {
  for (const text of ['', 'x', '<html>', '<html><title>Sign in</title>']) {
    await assertRefused(Buffer.from(text), 'xz', { field: 'magic' })
  }
})

suite('a changed stream', () => {
  const content = Buffer.from(
    Array.from({ length: 12 }, (_, line) => `line ${line * 7919}\n`).join(''),
  )

  for (const compression of compressions) {
    test(`${compression}: cut off at any byte, it gives an error or shorter output`, async () => {
      const stream = await encode[compression](content)
      // bzip2 needs a process for each try.
      const step = compression === 'bzip2' ? 9 : 1
      for (let end = 0; end < stream.length; end += step) {
        const { output, error } = await attempt([stream.subarray(0, end)], compression)
        assert.ok(content.subarray(0, output.length).equals(output), `cut at ${end}`)
        if (checking.includes(compression)) assert.ok(error !== undefined, `cut at ${end}`)
      }
    })

    test(`${compression}: with any byte changed, it gives an error or the same output`, async () => {
      const stream = await encode[compression](content)
      const step = compression === 'bzip2' ? 5 : 1
      for (let at = 0; at < stream.length; at += step) {
        const changed = Buffer.from(stream)
        changed[at] = (changed[at] ?? 0) ^ (1 << ((at * 5) % 8))
        const { output, error } = await attempt([changed], compression)
        if (error === undefined && checking.includes(compression)) {
          assert.ok(output.equals(content), `byte ${at}`)
        }
      }
    })

    test(`${compression}: followed by other bytes, it gives an error or the same output`, async () => {
      const stream = await encode[compression](content)
      for (const rest of [Buffer.alloc(1), Buffer.from('trailing'), Buffer.alloc(1000)]) {
        const { output, error } = await attempt([stream, rest], compression)
        if (error === undefined) assert.ok(output.equals(content))
        else assert.ok(content.subarray(0, output.length).equals(output))
        if (compression === 'zstd') assert.notEqual(error, undefined)
      }
    })
  }

  test('zstd: random changes of a stream with a checksum never give other output', async () => {
    const stream = await encode.zstd(Buffer.concat([content, randomBytes(300), content]))
    const original = await decode(stream, 'zstd')
    const change = fc.record({
      at: fc.nat(stream.length - 1),
      value: fc.integer({ min: 1, max: 255 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const changed = Buffer.from(stream)
        for (const { at, value } of changes) changed[at] = (changed[at] ?? 0) ^ value
        const { output, error } = await attempt([changed], 'zstd')
        if (error === undefined) assert.ok(output.equals(original))
      }),
      { numRuns: 300 },
    )
  })
})

suite('several streams in one', () => {
  const [first, second] = [contents.text, Buffer.from('and the second')]
  const both = Buffer.concat([first, second])

  for (const compression of ['xz', 'zstd', 'bzip2', 'gzip'] as const) {
    test(`${compression}: all of them are read`, async () => {
      const streams = [await encode[compression](first), await encode[compression](second)]
      for (const sizes of [[1 << 20], [1000], [7]]) {
        const decoded = await decode(Buffer.concat(streams), compression, sizes)
        assert.ok(decoded.equals(both), `in pieces of ${sizes.join()}`)
      }
    })

    test(`${compression}: an empty stream among them`, async () => {
      const empty = await encode[compression](Buffer.alloc(0))
      const streams = [empty, await encode[compression](first), empty]
      assert.ok((await decode(Buffer.concat(streams), compression)).equals(first))
    })

    test(`${compression}: it is an error if the second is cut off`, async () => {
      const [whole, cut] = [await encode[compression](first), await encode[compression](second)]
      const stream = Buffer.concat([whole, cut.subarray(0, -3)])
      const { error } = await attempt([stream], compression)
      assert.notEqual(error, undefined)
    })
  }

  test('xz: zeros between and after them', async () => {
    const [one, two] = [await encode.xz(first), await encode.xz(second)]
    const padded = Buffer.concat([one, Buffer.alloc(8), two, Buffer.alloc(4)])
    assert.ok((await decode(padded, 'xz')).equals(both))
  })

  test('zstd: skippable frames before, between and after them', async () => {
    const [one, two] = [await encode.zstd(first), await encode.zstd(second)]
    const skippable = Buffer.concat([Buffer.from('502a4d1803000000', 'hex'), Buffer.from('abc')])
    const stream = Buffer.concat([skippable, one, skippable, skippable, two, skippable])
    assert.ok((await decode(stream, 'zstd')).equals(both))
    assert.equal((await decode(skippable, 'zstd')).length, 0)
  })

  test('zstd: thousands of small frames', async () => {
    const frame = await encode.zstd(second)
    const stream = Buffer.concat(Array.from({ length: 500 }, () => frame))
    assert.equal((await decode(stream, 'zstd')).length, 500 * second.length)
  })
})

suite('streams that programs make with other options', () => {
  const content = Buffer.concat([contents.text, contents.noise.subarray(0, 100_000)])
  const options: [compression: 'xz' | 'zstd' | 'bzip2', args: string[]][] = [
    ['xz', ['-9']],
    ['xz', ['--check=none']],
    ['xz', ['--check=crc32']],
    ['xz', ['--check=sha256']],
    ['xz', ['--block-size=10000', '-T2']],
    // This makes an index with several parts.
    ['xz', ['--block-size=200', '-0']],
    ['xz', ['--x86', '--lzma2=preset=0']],
    ['xz', ['--lzma2=preset=0,dict=128MiB']],
    ['xz', ['--lzma2=preset=0,dict=4KiB']],
    ['zstd', ['-1', '--no-check']],
    ['zstd', ['-19', '-T2']],
    ['zstd', ['--long=27']],
    ['zstd', [`--stream-size=${content.length}`]],
    ['bzip2', ['-9']],
  ]
  for (const [compression, args] of options) {
    test(`${compression} ${args.join(' ')}`, async () => {
      const stream = await encode[compression](content, ...args)
      assert.ok((await decode(stream, compression)).equals(content))
    })
  }
})

suite('streams that need too much memory are refused', () => {
  test('xz: a dictionary of 512 MiB', async () => {
    const stream = await encode.xz(Buffer.from('x'), '--lzma2=preset=0,dict=512MiB')
    await assertRefused(stream, 'xz', { field: 'xz', expected: 2 ** 27, actual: 2 ** 29 })
  })

  for (const args of [['--x86'], ['--delta=dist=4'], ['--arm', '--delta=dist=1'], ['-T2']]) {
    test(`xz: such a dictionary if ${args.join(' ')} fills the header`, async () => {
      const stream = await encode.xz(Buffer.from('x'), ...args, '--lzma2=preset=0,dict=512MiB')
      await assertRefused(stream, 'xz', { field: 'xz', actual: 2 ** 29 })
    })
  }

  test('xz: such a dictionary in a second stream', async () => {
    const first = await encode.xz(contents.text)
    const second = await encode.xz(Buffer.from('x'), '--lzma2=preset=0,dict=512MiB')
    await assertRefused(Buffer.concat([first, second]), 'xz', { field: 'xz', actual: 2 ** 29 })
    const padded = Buffer.concat([first, Buffer.alloc(8), second])
    await assertRefused(padded, 'xz', { field: 'xz', actual: 2 ** 29 })
  })

  test('xz: such a dictionary in chunks of any size', async () => {
    const stream = await encode.xz(contents.text, '--lzma2=preset=0,dict=512MiB')
    for (const size of [1, 11, 12, 13, 24, 1035, 1036, 1037]) {
      const { output, error } = await attempt(inPieces(stream, [size]), 'xz')
      assertError(error, 'bad-compression', { field: 'xz', actual: 2 ** 29 })
      assert.equal(output.length, 0)
    }
  })

  test('zstd: a window of 256 MiB', async () => {
    const stream = await encode.zstd(Buffer.from('x'), '--long=28', '--ultra')
    await assertRefused(stream, 'zstd', { field: 'zstd', actual: 2 ** 28 })
    const behind = Buffer.concat([await encode.zstd(Buffer.from('x')), stream])
    await assertRefused(behind, 'zstd', { field: 'zstd', actual: 2 ** 28 })
  })
})

suite('a decoder reports the size of its memory before it allocates it', () => {
  async function told(stream: Buffer, compression: Compression): Promise<number[]> {
    const sizes: number[] = []
    let output = 0
    const hold = (bytes: number) => {
      assert.equal(output, 0, 'something came out already')
      sizes.push(bytes)
    }
    for await (const chunk of decompress(inPieces(stream, [1000]), compression, hold)) {
      output += chunk.length
    }
    return sizes
  }

  test('xz: the dictionary', async () => {
    const stream = await encode.xz(contents.text, '--lzma2=preset=0,dict=24MiB')
    assert.deepEqual(await told(stream, 'xz'), [24 << 20])
  })

  test('zstd: the window', async () => {
    assert.deepEqual(await told(await encode.zstd(contents.text, '--long=26'), 'zstd'), [1 << 26])
  })

  test('other formats need little memory and report nothing', async () => {
    for (const compression of ['bzip2', 'br', 'gzip'] as const) {
      assert.deepEqual(await told(await encode[compression](contents.text), compression), [])
    }
  })

  test('if the report throws, nothing is decoded', async () => {
    const refuse = () => {
      throw new NetimageError('disk-full', 'no room')
    }
    for (const compression of ['xz', 'zstd'] as const) {
      const stream = await encode[compression](contents.text)
      await assert.rejects(
        () => collect(decompress([stream], compression, refuse)),
        netimageError('disk-full', /^no room$/),
      )
    }
  })
})

suite('a decompression bomb', () => {
  const size = 48 << 20

  for (const compression of compressions) {
    test(`of ${compression} comes out in pieces`, async () => {
      const stream = await encode[compression](Buffer.alloc(size))
      assert.ok(stream.length < size / 200)
      let pieces = 0
      for await (const chunk of decompress([stream], compression)) {
        assert.ok(chunk.length <= 1 << 20, `a chunk of ${chunk.length} bytes`)
        if (++pieces > 10) break
      }
    })
  }

  // A file of these formats may have several streams, one after another.
  for (const compression of ['xz', 'zstd', 'bzip2', 'gzip'] as const) {
    test(`of ${compression} comes out no faster than it is read`, async () => {
      const part = await encode[compression](
        Buffer.concat([randomBytes(1 << 17), Buffer.alloc(size / 96)]),
      )
      const count = 60
      let taken = 0
      function* input(): Generator<Buffer> {
        for (; taken < count; taken++) yield part
      }
      for await (const chunk of decompress(input(), compression)) {
        assert.ok(chunk.length > 0)
        // Read another stream to its end: that gives this one time.
        for await (const other of decompress(Array(count).fill(part), compression)) assert.ok(other)
        break
      }
      assert.ok(taken < count / 2, `${taken} of ${count} parts were taken`)
    })
  }
})

suite('missing decoders', () => {
  const directory = temporaryDirectory()
  const emptyPath = join(directory, 'empty')
  const source = pathToFileURL(join(import.meta.dirname, '../../src/nix/decompress.ts')).href
  let streams: Record<'xz' | 'bzip2', string>

  before(async () => {
    mkdirSync(emptyPath)
    streams = { xz: join(directory, 'x.xz'), bzip2: join(directory, 'x.bz2') }
    writeFileSync(streams.xz, await encode.xz(Buffer.from('content')))
    writeFileSync(streams.bzip2, await encode.bzip2(Buffer.from('content')))
  })

  /** Decompresses in another process, with the programs of another PATH. */
  async function decodeElsewhere(
    compression: 'xz' | 'bzip2',
    path: string,
    withoutLibrary: boolean,
  ) {
    const script = `
      import { readFileSync } from 'node:fs'
      import { registerHooks } from 'node:module'
      const [compression, file, without] = process.argv.slice(1)
      if (without === 'true') {
        registerHooks({
          resolve(specifier, context, next) {
            if (specifier.startsWith('@napi-rs/lzma')) throw new Error('not for this platform')
            return next(specifier, context)
          },
        })
      }
      const { decompress } = await import('${source}')
      try {
        let text = ''
        for await (const chunk of decompress([readFileSync(file)], compression)) text += chunk
        console.log(JSON.stringify({ text }))
      } catch ({ code, message, hint }) {
        console.log(JSON.stringify({ code, message, hint }))
      }
    `
    const args = ['--input-type=module', '--eval', script, compression, streams[compression]]
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...args, String(withoutLibrary)],
      { env: { PATH: path } },
    )
    const answer: unknown = JSON.parse(stdout)
    return answer
  }

  const realPath = process.env['PATH'] ?? ''

  test('without the library, the program xz decompresses', async () => {
    assert.deepEqual(await decodeElsewhere('xz', realPath, true), { text: 'content' })
  })

  test('with the library, xz needs no program', async () => {
    assert.deepEqual(await decodeElsewhere('xz', emptyPath, false), { text: 'content' })
  })

  for (const [program, debianPackage] of [
    ['xz', 'xz-utils'],
    ['bzip2', 'bzip2'],
  ] as const) {
    test(`the error names the missing ${program} and its package`, async () => {
      assert.deepEqual(await decodeElsewhere(program, emptyPath, true), {
        code: 'program-missing',
        message: `the program ${program} is not installed`,
        hint: `A binary cache keeps a NAR compressed with ${program}. Install the package that has ${program} (on Debian: apt-get install ${debianPackage}).`,
      })
    })
  }
})
