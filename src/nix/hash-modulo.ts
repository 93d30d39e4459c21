/**
 * The hash that Nix uses for content that refers to its own store path. Each occurrence of the
 * path's hash part is replaced by zeros. The positions of the occurrences are hashed at the end.
 *
 * https://github.com/NixOS/nix/blob/master/src/libstore/references.cc (HashModuloSink)
 */
import { createHash } from 'node:crypto'

import type { HashAlgorithm } from './hash.ts'

export interface StreamHash {
  update(chunk: Uint8Array): void
  hex(): string
}

/** @param modulus the 32 characters to replace by zeros */
export function hashModulo(algorithm: HashAlgorithm, modulus: string): StreamHash {
  const hash = createHash(algorithm)
  const needle = Buffer.from(modulus, 'latin1')
  const places: number[] = []
  // These bytes may be the beginning of a match that ends in the next chunk.
  let held: Buffer = Buffer.alloc(0)
  let position = 0

  function flush(window: Buffer, upTo: number): void {
    hash.update(window.subarray(0, upTo))
    position += upTo
    held = window.subarray(upTo)
  }

  return {
    update(chunk) {
      const window = Buffer.concat([held, chunk])
      let end = Math.max(0, window.length - needle.length + 1)
      let from = 0
      for (;;) {
        const at = window.indexOf(needle, from, 'latin1')
        if (at < 0) break
        places.push(position + at)
        window.fill(0, at, at + needle.length)
        from = at + needle.length
        end = Math.max(end, from)
      }
      flush(window, Math.min(end, window.length))
    },
    hex() {
      flush(held, held.length)
      for (const place of places) hash.update(`|${place}`)
      return hash.digest('hex')
    },
  }
}
