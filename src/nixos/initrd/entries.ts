/**
 * Reads the entries of an initrd like the kernel: cpio archives one after the other, plain or
 * compressed, with zeros between them.
 *
 * https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
import type { Chunks } from '../../nix/byte-reader.ts'
import { createByteReader, type ByteBudget, type ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'
import { decompressNext, findCompression } from './compressed.ts'
import { isCpio, readCpioEntry, type InitrdEntry, type WantsContent } from './cpio.ts'

/** A bound on the unpacked bytes. The machine unpacks its initrd into memory. */
const maxUnpackedBytes = 4 * 2 ** 30

/**
 * If this throws, the entries that were yielded before are valid.
 *
 * @param maxBytes the limit for the bytes that are read, and for the bytes that they unpack to
 * @throws `NetimageError` `bad-system` if the initrd is broken
 * @throws `UnknownCompression`
 */
export async function* readInitrd(
  input: Chunks,
  wantsContent: WantsContent,
  maxBytes: number = maxUnpackedBytes,
): AsyncGenerator<InitrdEntry> {
  const unpacked: ByteBudget = { left: maxBytes }
  const reader = createByteReader(input, { left: maxBytes }, brokenInitrd)
  try {
    for (;;) {
      yield* readArchives(reader, wantsContent)
      const start = await reader.peek(6)
      if (start.length === 0) return
      const compression = findCompression(start)
      if (compression === undefined) throw unknownStart(start)
      const inner = createByteReader(decompressNext(reader, compression), unpacked, brokenInitrd)
      try {
        yield* readArchives(inner, wantsContent)
        if ((await inner.peek(1)).length > 0) {
          throw brokenInitrd(`a part of it, compressed with ${compression}, is no cpio archive`, {
            field: 'magic',
          })
        }
      } finally {
        await inner.close()
      }
    }
  } finally {
    await reader.close()
  }
}

/** Reads archives until the end, or until the next bytes are no archive. */
async function* readArchives(
  reader: ByteReader,
  wantsContent: WantsContent,
): AsyncGenerator<InitrdEntry> {
  for (;;) {
    await skipZeros(reader)
    if (!isCpio(await reader.peek(6))) return
    const entry = await readCpioEntry(reader, wantsContent)
    if (entry) yield entry
  }
}

async function skipZeros(reader: ByteReader): Promise<void> {
  for (;;) {
    const bytes = await reader.next()
    if (!bytes) return
    const end = bytes.findIndex((byte) => byte !== 0)
    if (end < 0) continue
    reader.putBack(bytes.subarray(end))
    return
  }
}

function unknownStart(start: Buffer) {
  const actual = start.toString('hex')
  if (start.toString('latin1').startsWith('0707')) {
    return brokenInitrd('its cpio archive has an old format (the kernel reads only newc)', {
      field: 'magic',
      actual,
    })
  }
  return brokenInitrd(`a part of it is neither an archive nor compressed: ${actual}`, {
    field: 'magic',
    actual,
  })
}
