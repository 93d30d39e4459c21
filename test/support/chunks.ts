// Cuts bytes into pieces of any size, as a stream may do.

import fc from 'fast-check'

/** The lengths of the pieces, repeated until all bytes are cut. */
export const pieceSizes = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 })

export function* inPieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  let at = 0
  for (let index = 0; at < bytes.length; index++) {
    const end = at + (sizes[index % sizes.length] ?? 1)
    yield bytes.subarray(at, end)
    at = end
  }
}

/**
 * Yields each piece in the same buffer, as a reader does to save memory. A test then fails if the
 * code uses a piece after the next one was yielded.
 */
export function* inReusedPieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  const shared = Buffer.alloc(Math.max(...sizes))
  for (const piece of inPieces(bytes, sizes)) {
    piece.copy(shared)
    yield shared.subarray(0, piece.length)
    shared.fill(0xaa)
  }
}
