// content-address.test.ts shows that this is the hash of real Nix.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashModulo } from '../../src/nix/hash-modulo.ts'
import { inReusedPieces, pieceSizes } from '../support/chunks.ts'

const modulus = 'a0b1c2d3f4g5h6i7j8k9l0m1n2p3q4r5'

/** A simple implementation with everything in memory. */
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

/** Bytes with the hash part, and with parts that look similar. */
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

test('the hash part counts as zeros, and its positions count too, with chunks of any size', () => {
  fc.assert(
    fc.property(bytesWithModulus, pieceSizes, (bytes, sizes) => {
      assert.equal(actual(bytes, sizes), expected(bytes))
    }),
    { numRuns: 1000 },
  )
})

test('the end of a chunk may cut the hash part anywhere', () => {
  const bytes = Buffer.from(`before ${modulus} between ${modulus}${modulus} after`)
  const hash = expected(bytes)
  for (let size = 1; size <= bytes.length; size++) assert.equal(actual(bytes, [size]), hash)
  for (let first = 1; first < bytes.length; first++) {
    assert.equal(actual(bytes, [first, bytes.length]), hash, `cut at byte ${first}`)
  }
})

test('without the hash part it is the plain hash, also for an empty input', () => {
  for (const text of ['', 'x', modulus.slice(1), 'x'.repeat(100_000)]) {
    const plain = createHash('sha256').update(text).digest('hex')
    assert.equal(actual(Buffer.from(text), [1000]), plain)
  }
})

test('another position of the hash part gives another hash', () => {
  const zeros = '\0'.repeat(32)
  const texts = [`${modulus}${zeros}`, `${zeros}${modulus}`, `${zeros}${zeros}`]
  assert.equal(new Set(texts.map((text) => actual(Buffer.from(text), [64]))).size, 3)
})
