// That it is the hash that real Nix makes is shown in content-address.test.ts.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashModulo } from '../../src/nix/hash-modulo.ts'
import { inReusedPieces, pieceSizes } from '../support/chunks.ts'

const modulus = 'a0b1c2d3f4g5h6i7j8k9l0m1n2p3q4r5'

/** The same by plain means: with everything in memory. */
function expected(bytes: Buffer): string {
  const parts = bytes.toString('latin1').split(modulus)
  const hash = createHash('sha256').update(parts.join('\0'.repeat(32)), 'latin1')
  let place = -32
  for (const part of parts.slice(0, -1)) {
    place += part.length + 32
    hash.update(`|${place}`)
  }
  return hash.digest('hex')
}

function actual(bytes: Buffer, sizes: number[]): string {
  const modulo = hashModulo('sha256', modulus)
  for (const piece of inReusedPieces(bytes, sizes)) modulo.update(piece)
  return modulo.hex()
}

/** Bytes with the hash part in them, whole and in parts that only look like it. */
const bytesWithModulus = fc
  .array(
    fc.oneof(
      fc.constant(Buffer.from(modulus)),
      fc.nat({ max: 31 }).map((length) => Buffer.from(modulus.slice(0, length))),
      fc.nat({ max: 31 }).map((start) => Buffer.from(modulus.slice(start))),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts))

test('the hash part counts as zeros, and where it stood counts too, at any chunking', () => {
  fc.assert(
    fc.property(bytesWithModulus, pieceSizes, (bytes, sizes) => {
      assert.equal(actual(bytes, sizes), expected(bytes))
    }),
    { numRuns: 1000 },
  )
})

test('the hash part may be cut anywhere', () => {
  const bytes = Buffer.from(`before ${modulus} between ${modulus}${modulus} after`)
  const hash = expected(bytes)
  for (let size = 1; size <= bytes.length; size++) assert.equal(actual(bytes, [size]), hash)
  for (let first = 1; first < bytes.length; first++) {
    assert.equal(actual(bytes, [first, bytes.length]), hash, `cut at byte ${first}`)
  }
})

test('without the hash part it is the plain hash, of nothing as well', () => {
  for (const text of ['', 'x', modulus.slice(1), 'x'.repeat(100_000)]) {
    const plain = createHash('sha256').update(text).digest('hex')
    assert.equal(actual(Buffer.from(text), [1000]), plain)
  }
})

test('where the hash part stood makes a difference', () => {
  const zeros = '\0'.repeat(32)
  const texts = [`${modulus}${zeros}`, `${zeros}${modulus}`, `${zeros}${zeros}`]
  assert.equal(new Set(texts.map((text) => actual(Buffer.from(text), [64]))).size, 3)
})
