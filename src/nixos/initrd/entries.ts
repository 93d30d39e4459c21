/**
 * What is in an initrd, as the kernel unpacks it: cpio archives one after the other, plain or
 * compressed, with zeros between them.
 *
 * https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
import type { Chunks } from '../../nix/byte-reader.ts'
import { createByteReader, type ByteBudget, type ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'
import { decompressNext, findCompression } from './compressed.ts'
import { isCpio, readCpioEntry, type InitrdEntry, type WantsContent } from './cpio.ts'

/** A machine that boots over the network unpacks its initrd into memory. */
const maxUnpackedBytes = 4 * 2 ** 30

/**
 * Throws a NetimageError where the initrd is broken, and an UnknownCompression; entries that came
 * before that are good.
 *
 * @param input compressed or not
 * @param maxBytes how much is read, and how much that may unpack to
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
          throw brokenInitrd(`what is compressed with ${compression} in it is no cpio archive`)
        }
      } finally {
        await inner.close()
      }
    }
  } finally {
    await reader.close()
  }
}

/** Archives until the end, or until something begins that is none. */
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
  if (start.toString('latin1').startsWith('0707')) {
    return brokenInitrd('its cpio archive is of an old format (the kernel takes newc)')
  }
  return brokenInitrd(
    `it goes on with neither an archive nor a compression: ${start.toString('hex')}`,
  )
}
