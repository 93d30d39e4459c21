/**
 * Decompresses the files of binary caches, as streams with bounded memory.
 *
 * Some decoders do not notice that a stream is cut off or too long. So the caller must check the
 * end, size and hash of the NAR.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable, pipeline, type Duplex } from 'node:stream'
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib'

import { errnoOf, messageOf, NetimageError, type ErrorDetails } from '../errors.ts'
import { createByteReader, type Chunks } from './byte-reader.ts'
import type { Compression, HoldMemory } from './compression.ts'
import type { NativeDecoder, OpenDecoder } from './native-decoder.ts'
import { xzStream } from './xz-stream.ts'
import { zstdFrames } from './zstd-frames.ts'

const chunkSize = 256 * 1024
/** xz pads streams with multiples of four bytes: section 2.2 of the format. */
const padding = Buffer.alloc(4)

/**
 * @param open opens decoders that block this thread while they work. Then each chunk of the output is valid
 *   only until the next one is asked for
 */
export function decompress(
  input: Chunks,
  compression: Compression,
  hold: HoldMemory = () => undefined,
  open: OpenDecoder = () => undefined,
): Chunks {
  switch (compression) {
    case 'none':
      return input
    case 'zstd':
      return zstd(input, hold, open('zstd'))
    case 'br':
      return through(input, createBrotliDecompress({ chunkSize }), 'br')
    case 'gzip':
      return through(input, createGunzip({ chunkSize }), 'gzip')
    case 'xz':
      return xz(input, hold, open('xz'))
    case 'bzip2':
      return program(input, 'bzip2', ['-dc'])
  }
}

function broken(compression: string, error: unknown): Error {
  if (error instanceof NetimageError) return error
  return brokenStream(compression)(messageOf(error), {}, error)
}

function brokenStream(compression: string) {
  return (why: string, details: ErrorDetails = {}, cause?: unknown) =>
    new NetimageError('bad-compression', `the ${compression} stream is broken: ${why}`, {
      cause,
      details: { field: compression, ...details },
    })
}

/**
 * Joins parts up to the size of a chunk: the blocks of a compressed stream are small, and each write
 * to a decoder takes a turn of the event loop.
 */
async function* batched(input: Chunks): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  let length = 0
  for await (const part of input) {
    parts.push(part)
    length += part.length
    if (length < chunkSize) continue
    yield Buffer.concat(parts)
    parts = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(parts)
}

/** Sends `input` through a duplex stream. An error in either, or an early exit, ends both. */
async function* through(input: Chunks, duplex: Duplex, name: string): AsyncGenerator<Buffer> {
  const source = Readable.from(input, { objectMode: false, highWaterMark: chunkSize })
  let failure: unknown
  pipeline(source, duplex, (error) => (failure = error ?? undefined))
  try {
    for await (const chunk of duplex) yield asBuffer(chunk)
  } catch (error) {
    throw broken(name, failure ?? error)
  } finally {
    source.destroy()
    duplex.destroy()
  }
}

function asBuffer(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk
  if (chunk instanceof Uint8Array) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
  throw new NetimageError('internal', `a decoder gave ${typeof chunk} instead of bytes`)
}

async function* decoded(
  input: Chunks,
  decoder: NativeDecoder,
  name: string,
): AsyncGenerator<Buffer> {
  try {
    for await (const part of input) yield* decoder.decode(part)
    yield* decoder.end()
  } catch (error) {
    throw broken(name, error)
  }
}

async function* zstd(
  input: Chunks,
  hold: HoldMemory,
  decoder: NativeDecoder | undefined,
): AsyncGenerator<Buffer> {
  const reader = createByteReader(input, { left: Infinity }, brokenStream('zstd'))
  try {
    for await (const frame of zstdFrames(reader, hold)) {
      if (decoder) yield* decoded(frame, decoder, 'zstd')
      else yield* through(batched(frame), createZstdDecompress({ chunkSize }), 'zstd')
    }
  } finally {
    decoder?.close()
    await reader.close()
  }
}

async function* xz(
  input: Chunks,
  hold: HoldMemory,
  decoder: NativeDecoder | undefined,
): AsyncGenerator<Buffer> {
  const checked = xzStreams(input, hold)
  if (decoder) {
    try {
      yield* decoded(checked, decoder, 'xz')
    } finally {
      decoder.close()
    }
    return
  }
  const lzma = await import('@napi-rs/lzma/xz').catch(() => undefined)
  if (!lzma) {
    // No prebuilt decoder for this platform.
    yield* program(checked, 'xz', ['-dc'])
    return
  }
  // The Duplex of this package hangs when it is aborted. Its web stream does not.
  const source = Readable.from(checked, { objectMode: false, highWaterMark: chunkSize })
  let sourceError: unknown
  // The decoder only passes on the message of an error, so keep the error itself.
  source.on('error', (error) => (sourceError = error))
  const output = lzma.decompressStream(Readable.toWeb(source))
  try {
    for await (const chunk of Readable.fromWeb(output)) yield asBuffer(chunk)
  } catch (error) {
    throw broken('xz', sourceError ?? error)
  } finally {
    source.destroy()
  }
}

/** The bytes of all streams of an xz file, without the padding between the streams. */
async function* xzStreams(input: Chunks, hold: HoldMemory): AsyncGenerator<Buffer> {
  const reader = createByteReader(input, { left: Infinity }, brokenStream('xz'))
  try {
    for (let streams = 0; ; streams++) {
      while (streams > 0 && (await reader.peek(4)).equals(padding)) await reader.skip(4)
      if (streams > 0 && (await reader.peek(1)).length === 0) return
      yield* xzStream(reader, hold)
    }
  } finally {
    await reader.close()
  }
}

/** Sends `input` through a program. The program reports failures by its exit status. */
async function* program(input: Chunks, command: string, args: string[]): AsyncGenerator<Buffer> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  const exit = once(child, 'close')
  // We await this promise below. Until then Node must not report a failed start as unhandled.
  exit.catch(() => undefined)
  let complaint = ''
  child.stderr.on('data', (text) => (complaint = (complaint + String(text)).slice(-500)))
  const source = Readable.from(input, { objectMode: false, highWaterMark: chunkSize })
  let sourceError: unknown
  // EPIPE only says that the program has ended. Its exit status says why.
  pipeline(source, child.stdin, (error) => {
    if (error && errnoOf(error) !== 'EPIPE') sourceError = error
  })
  try {
    for await (const chunk of child.stdout) yield asBuffer(chunk)
    const [status] = await exit
    if (sourceError !== undefined) throw sourceError
    if (status !== 0) throw new Error(complaint.trim() || `${command} ended with ${status}`)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new NetimageError('program-missing', `the program ${command} is not installed`, {
        hint: `A binary cache keeps a NAR compressed with ${command}. Install the package that has ${command} (on Debian: apt-get install ${command === 'xz' ? 'xz-utils' : command}).`,
      })
    }
    throw broken(command, error)
  } finally {
    source.destroy()
    child.kill()
  }
}
