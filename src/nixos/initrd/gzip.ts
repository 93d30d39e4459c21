/**
 * Reads one member of a gzip file, and leaves the bytes that follow.
 *
 * Node's gunzip reads on after a member and does not tell where the member ended.
 * https://www.rfc-editor.org/rfc/rfc1952
 */
import { crc32, createInflateRaw } from 'node:zlib'

import type { ByteReader } from '../../nix/byte-reader.ts'
import { brokenInitrd } from './broken.ts'

const chunkSize = 256 * 1024
const flag = { headerChecksum: 2, extra: 4, name: 8, comment: 16 }

export async function* gunzipMember(reader: ByteReader): AsyncGenerator<Buffer> {
  await skipHeader(reader)
  let sum = 0
  let size = 0
  for await (const bytes of inflate(reader)) {
    sum = crc32(bytes, sum)
    size += bytes.length
    yield bytes
  }
  const trailer = await reader.take(8)
  if (trailer.readUInt32LE(0) !== sum || trailer.readUInt32LE(4) !== size % 2 ** 32) {
    throw brokenInitrd('the checksum of its gzip stream is wrong', { field: 'gzip' })
  }
}

async function skipHeader(reader: ByteReader): Promise<void> {
  const header = await reader.take(10)
  const flags = header.readUInt8(3)
  if (header.readUInt8(2) !== 8)
    throw brokenInitrd('its gzip stream has an unknown compression method', { field: 'gzip' })
  if ((flags & flag.extra) !== 0) await reader.skip((await reader.take(2)).readUInt16LE(0))
  if ((flags & flag.name) !== 0) await skipText(reader)
  if ((flags & flag.comment) !== 0) await skipText(reader)
  if ((flags & flag.headerChecksum) !== 0) await reader.skip(2)
}

async function skipText(reader: ByteReader): Promise<void> {
  while ((await reader.take(1)).readUInt8(0) !== 0) continue
}

/** Leaves the reader at the first byte after the deflated data. */
async function* inflate(reader: ByteReader): AsyncGenerator<Buffer> {
  const decoder = createInflateRaw({ chunkSize })
  let given = 0
  // After the end of its data, the decoder reads no more of the bytes that were written to it.
  let notTaken: Buffer[] = []
  let written: (wantsMore: boolean) => void = () => undefined
  decoder.once('end', () => written(false)).once('close', () => written(false))

  async function feed(): Promise<void> {
    while (!decoder.readableEnded && !decoder.destroyed) {
      const bytes = await reader.next()
      if (!bytes) {
        decoder.end()
        return
      }
      if (decoder.bytesWritten === given) notTaken = []
      notTaken.push(bytes)
      given += bytes.length
      const wantsMore = await new Promise<boolean>((resolve) => {
        written = resolve
        decoder.write(bytes, () => resolve(true))
      })
      if (!wantsMore) return
    }
  }

  let inputError: unknown
  const fed = feed().catch((error: unknown) => {
    inputError = error
    decoder.destroy()
  })
  try {
    for await (const bytes of decoder) {
      if (Buffer.isBuffer(bytes)) yield bytes
    }
    await fed
  } catch (error) {
    throw (
      inputError ?? brokenInitrd('its gzip stream is damaged or cut off', { field: 'gzip' }, error)
    )
  } finally {
    decoder.destroy()
  }
  const rest = Buffer.concat(notTaken)
  reader.putBack(rest.subarray(rest.length - (given - decoder.bytesWritten)))
}
