/**
 * Receives a NAR into the pool: decompresses, hashes and unpacks it in one pass, and compares every
 * size and hash with the promised one.
 */
import { createHash } from 'node:crypto'

import { NetimageError, type ErrorDetails } from '../errors.ts'
import { decompress } from '../nix/decompress.ts'
import { formatHash, type Hash } from '../nix/hash.ts'
import { nativeDecoders } from '../nix/native-decoder.ts'
import { readChunks, type NarFile, type NarSource } from '../nix/nar-source.ts'
import { dumpNar } from '../nix/nar/dump.ts'
import { createNarParser } from '../nix/nar/parse.ts'
import { restoreTo } from '../nix/nar/restore.ts'
import type { TreeSecret } from '../secrets.ts'
import type { MemoryClaim } from './decoder-memory.ts'
import { searchNar } from './search-nar.ts'

const openDecoder = nativeDecoders()

/** The facts that a store promised about a NAR. */
export interface NarExpectation {
  /** The store path, for errors. */
  path: string
  narHash: Hash
  narSize: number
}

/**
 * Unpacks `source` at `destination`, which must not exist. After an error the files there must not
 * be used.
 *
 * @param search whether to look for secrets as well
 * @param progress gets the number of the NAR's bytes in each chunk
 * @returns the secrets in the tree; undefined if nobody can tell without another search
 */
export async function receiveNar(
  source: NarSource,
  destination: string,
  expected: NarExpectation,
  search: boolean,
  progress: (bytes: number) => void,
  memory: MemoryClaim,
): Promise<TreeSecret[] | undefined> {
  const unpacking = unpackNar(destination, expected, search)
  let isReading = true

  function write(chunk: Buffer): void {
    isReading = false
    unpacking.write(chunk)
    progress(chunk.length)
    isReading = true
  }

  try {
    if (source.kind === 'tree') dumpNar(source.directory, write)
    else for await (const chunk of narChunks(source, expected, memory)) write(chunk)
    isReading = false
    return unpacking.end()
  } catch (error) {
    throw isReading ? unreadable(error) : error
  } finally {
    unpacking.abandon()
    memory.release()
  }
}

export interface Unpacking {
  write(chunk: Buffer): void
  /**
   * Call this at the end of the NAR.
   *
   * @returns the secrets in the tree; undefined if nobody can tell without another search
   * @throws if the NAR is not as promised: the files must not be used then
   */
  end(): TreeSecret[] | undefined
  /** Closes the open file, if the stream ended early. */
  abandon(): void
}

/** Unpacks a NAR at `destination`, which must not exist, and compares it with what was promised. */
export function unpackNar(
  destination: string,
  expected: NarExpectation,
  search: boolean,
): Unpacking {
  const restore = restoreTo(destination)
  const searched = search ? searchNar(restore) : undefined
  const parser = createNarParser(searched ?? restore)
  const hash = createHash('sha256')
  let size = 0
  return {
    write(chunk) {
      size += chunk.length
      // Check this during the stream. Otherwise a decompression bomb could fill the disk.
      if (size > expected.narSize) {
        throw mismatch(
          'size-mismatch',
          expected,
          `its NAR is larger than ${expected.narSize} bytes`,
          { field: 'NarSize', expected: expected.narSize },
        )
      }
      hash.update(chunk)
      parser.write(chunk)
    },
    end() {
      parser.end()
      if (size !== expected.narSize) throw wrongSize(expected, size)
      expectHash(expected, 'its NAR', expected.narHash, hash.digest('hex'), 'NarHash')
      return searched?.secrets()
    },
    abandon: () => restore.abandon(),
  }
}

/** If a file of the store cannot be read, the store is at fault, and another one may succeed. */
function unreadable(error: unknown): unknown {
  if (!(error instanceof NetimageError) || error.code !== 'file-system') return error
  return new NetimageError('bad-store', error.message, {
    cause: error,
    details: error.details,
    hint: 'Run this as a user who may read that store, or name another store with --from.',
  })
}

/** Decompresses the NAR in a file, and checks the file's own hash and size. */
async function* narChunks(
  source: NarFile,
  expected: NarExpectation,
  memory: MemoryClaim,
): AsyncGenerator<Buffer> {
  const { file, compression, fileHash, fileSize } = source
  // Without compression both hashes are of the same bytes, so one check is enough.
  const sameBytes = compression === 'none' && fileHash?.hex === expected.narHash.hex
  const hash = fileHash && !sameBytes ? createHash('sha256') : undefined
  let size = 0

  function* observed(): Generator<Buffer> {
    for (const chunk of readChunks(file, compression === 'none')) {
      size += chunk.length
      hash?.update(chunk)
      yield chunk
    }
  }

  yield* decompress(observed(), compression, (bytes) => memory.hold(bytes), openDecoder)
  if (fileSize !== undefined && size !== fileSize) {
    const why = `its ${compression} file has ${size} bytes, but the store promised ${fileSize}`
    const details = { field: 'FileSize', expected: fileSize, actual: size }
    throw mismatch('size-mismatch', expected, why, details)
  }
  if (fileHash && hash) {
    expectHash(expected, `its ${compression} file`, fileHash, hash.digest('hex'), 'FileHash')
  }
}

function expectHash(
  expected: NarExpectation,
  what: string,
  promised: Hash,
  hex: string,
  field: 'NarHash' | 'FileHash',
): void {
  if (hex === promised.hex) return
  const details = {
    ...{ field, expected: formatHash(promised) },
    actual: formatHash({ algorithm: promised.algorithm, hex }),
  }
  const why = `${what} has the hash ${details.actual}, but the store promised ${details.expected}`
  throw mismatch('hash-mismatch', expected, why, details)
}

export function wrongSize(expected: NarExpectation, size: number): NetimageError {
  const why = `its NAR has ${size} bytes, but the store promised ${expected.narSize}`
  const details = { field: 'NarSize', expected: expected.narSize, actual: size }
  return mismatch('size-mismatch', expected, why, details)
}

export function mismatch(
  code: 'hash-mismatch' | 'size-mismatch',
  expected: NarExpectation,
  why: string,
  details: ErrorDetails,
): NetimageError {
  return new NetimageError(code, `${expected.path} is not what its store promised: ${why}`, {
    details: { path: expected.path, ...details },
    hint: 'The store or the transfer is damaged. If this happens again, ask the store’s owner, or name another store with --from.',
  })
}
