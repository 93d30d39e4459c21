/** The compressions of initrds. Like the kernel, netimage knows them by their first bytes. */
import { NetimageError } from '../../errors.ts'
import type { Chunks } from '../../nix/byte-reader.ts'
import { decompress } from '../../nix/decompress.ts'
import type { ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'
import { gunzipMember } from './gzip.ts'
import { xzStream } from '../../nix/xz-stream.ts'
import { zstdFrame } from '../../nix/zstd-frames.ts'

export type InitrdCompression = 'gzip' | 'xz' | 'zstd' | 'bzip2' | 'lzma' | 'lzo' | 'lz4'

/** https://github.com/torvalds/linux/blob/master/lib/decompress.c */
const magics: readonly [InitrdCompression, Buffer][] = [
  ['gzip', Buffer.from([0x1f, 0x8b])],
  ['bzip2', Buffer.from([0x42, 0x5a])],
  ['lzma', Buffer.from([0x5d, 0x00])],
  ['xz', Buffer.from([0xfd, 0x37])],
  ['lzo', Buffer.from([0x89, 0x4c])],
  ['lz4', Buffer.from([0x02, 0x21])],
  ['zstd', Buffer.from([0x28, 0xb5])],
]

export function findCompression(start: Buffer): InitrdCompression | undefined {
  return magics.find(([, magic]) => magic.equals(start.subarray(0, magic.length)))?.[0]
}

/** The initrd has a compression that the kernel may know but netimage does not. */
export class UnknownCompression extends Error {
  override readonly name = 'UnknownCompression'
  readonly compression: InitrdCompression

  constructor(compression: InitrdCompression) {
    super(`the initrd is compressed with ${compression}`)
    this.compression = compression
  }
}

/** Decompresses the next stream, and leaves the reader at the first byte after the stream. */
export function decompressNext(
  reader: ByteReader,
  compression: InitrdCompression,
): AsyncGenerator<Buffer> {
  switch (compression) {
    case 'gzip':
      return gunzipMember(reader)
    case 'xz':
      return decodeWhole(xzStream(reader), 'xz')
    case 'zstd':
      return decodeWhole(zstdFrame(reader), 'zstd')
    case 'bzip2':
    case 'lzma':
    case 'lzo':
    case 'lz4':
      throw new UnknownCompression(compression)
  }
}

/** A decoder must read its whole input. Otherwise the reader would be left inside the stream. */
async function* decodeWhole(
  input: AsyncGenerator<Buffer>,
  compression: 'xz' | 'zstd',
): AsyncGenerator<Buffer> {
  let isWhole = false
  let inputError: unknown
  async function* watched(): AsyncGenerator<Buffer> {
    try {
      yield* input
      isWhole = true
    } catch (error) {
      inputError = error
      throw error
    }
  }
  try {
    yield* asGenerator(decompress(watched(), compression))
  } catch (error) {
    const cause = inputError ?? error
    if (!(cause instanceof NetimageError) || cause.code !== 'bad-compression') throw cause
    throw brokenInitrd(
      `its ${compression} stream is damaged (${cause.message})`,
      { field: compression },
      cause,
    )
  }
  if (!isWhole) throw brokenInitrd(`its ${compression} stream is cut off`, { field: compression })
}

async function* asGenerator(chunks: Chunks): AsyncGenerator<Buffer> {
  yield* chunks
}
