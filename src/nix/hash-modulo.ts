/**
 * The hash of a stream in which a path's own hash part counts as zeros, and the places where it
 * stood are hashed at the end: how Nix addresses content that refers to itself.
 *
 * https://github.com/NixOS/nix/blob/master/src/libstore/references.cc (HashModuloSink)
 */
import { createHash } from 'node:crypto'

import type { HashAlgorithm } from './hash.ts'

export interface StreamHash {
  update(chunk: Uint8Array): void
  hex(): string
}

/** @param modulus the 32 characters to blank out */
export function hashModulo(algorithm: HashAlgorithm, modulus: string): StreamHash {
  const hash = createHash(algorithm)
  const needle = Buffer.from(modulus, 'latin1')
  const places: number[] = []
  // Bytes that may begin a match which the next chunk completes.
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
