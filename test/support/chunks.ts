// The same bytes in pieces of any size, as a stream may bring them.

import fc from 'fast-check'

/** How to cut bytes: each number is the length of one piece, over and over. */
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
 * Each piece in one buffer that the next overwrites, as a reader does that saves memory: whoever
 * keeps a piece beyond its turn is found out.
 */
export function* inReusedPieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  const shared = Buffer.alloc(Math.max(...sizes))
  for (const piece of inPieces(bytes, sizes)) {
    piece.copy(shared)
    yield shared.subarray(0, piece.length)
    shared.fill(0xaa)
  }
}
