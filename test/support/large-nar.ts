// A store path of any size that needs no memory: a file of zeros. Its compressed NAR is made while
// the server sends it.

import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { createZstdCompress } from 'node:zlib'
import { narHashText, narString } from './synthetic.ts'

const chunk = Buffer.alloc(1 << 20)

/** @param bytes a multiple of a megabyte */
export function* narOfZeros(bytes: number): Generator<Buffer> {
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(bytes))
  yield Buffer.concat(['nix-archive-1', '(', 'type', 'regular', 'contents'].map(narString))
  yield size
  for (let sent = 0; sent < bytes; sent += chunk.length) yield chunk
  yield narString(')')
}

export type LargeNar = { narHash: string; narSize: number; file: Buffer; fileHash: string }

/** Four gigabytes of zeros compress to a few hundred kilobytes. */
export async function compressZeros(bytes: number): Promise<LargeNar> {
  const hash = createHash('sha256')
  let narSize = 0
  function* hashed(): Generator<Buffer> {
    for (const part of narOfZeros(bytes)) {
      hash.update(part)
      narSize += part.length
      yield part
    }
  }
  const parts: Buffer[] = []
  const fileHash = createHash('sha256')
  for await (const part of Readable.from(hashed()).pipe(createZstdCompress())) {
    if (!Buffer.isBuffer(part)) throw new Error('A compressor gave no bytes.')
    parts.push(part)
    fileHash.update(part)
  }
  return {
    narHash: narHashText(hash.digest()),
    narSize,
    file: Buffer.concat(parts),
    fileHash: narHashText(fileHash.digest()),
  }
}
