import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { alphabet, decode, encode, encodedLength } from '../../src/nix/base32.ts'
import { plainNix } from '../support/programs.ts'
import { runProgram } from '../support/real-nix.ts'

const sizes = { md5: 16, sha1: 20, sha256: 32, sha512: 64 }

/** One run of Nix for many hashes. */
async function convertWithNix(to: string, algorithm: string, hashes: string[]) {
  const output = await runProgram(
    'nix',
    ['--extra-experimental-features', 'nix-command', 'hash', to, '--type', algorithm, ...hashes],
    { environment: plainNix },
  )
  return output.trimEnd().split('\n')
}

suite('base32 agrees with Nix', () => {
  for (const [algorithm, size] of Object.entries(sizes)) {
    test(`for the bytes of ${algorithm}`, async () => {
      const bytes = fc.uint8Array({ minLength: size, maxLength: size })
      const edges = [0, 1, 0x7f, 0x80, 0xff].map((byte) => new Uint8Array(size).fill(byte))
      await fc.assert(
        fc.asyncProperty(fc.array(bytes, { minLength: 300, maxLength: 300 }), async (random) => {
          const all = [...edges, ...random]
          const hex = all.map((bytes) => Buffer.from(bytes).toString('hex'))
          const texts = all.map(encode)
          assert.deepEqual(texts, await convertWithNix('to-base32', algorithm, hex))
          assert.deepEqual(hex, await convertWithNix('to-base16', algorithm, texts))
        }),
        { numRuns: 1 },
      )
    })
  }
})

const anyBytes = fc.uint8Array({ maxLength: 70 })
const anyText = fc.string({ unit: fc.constantFrom(...alphabet.split('')), maxLength: 60 })

test('decoding an encoded text gives the same bytes', () => {
  fc.assert(
    fc.property(anyBytes, (bytes) => {
      const text = encode(bytes)
      assert.equal(text.length, encodedLength(bytes.length))
      assert.deepEqual(decode(text), bytes)
    }),
  )
})

test('a text is refused, or it is the only encoding of its bytes', () => {
  let decoded = 0
  fc.assert(
    fc.property(anyText, (text) => {
      const bytes = decode(text)
      if (bytes === undefined) return
      decoded++
      assert.equal(encode(bytes), text)
    }),
    { numRuns: 2000 },
  )
  assert.ok(decoded > 100, `${decoded} were decoded`)
})

suite('a text is refused', () => {
  test('with a character that is not in the alphabet', () => {
    const valid = encode(new Uint8Array(32).fill(0x5a))
    for (const character of ['e', 'o', 'u', 't', 'A', 'Z', '=', '+', '/', ' ', '\n', '\0', 'é']) {
      for (const at of [0, 1, 25, 51]) {
        const text = valid.slice(0, at) + character + valid.slice(at + 1)
        assert.equal(decode(text), undefined, JSON.stringify(text))
      }
    }
  })

  test('with a length that is not the length of any bytes', () => {
    // Each character has 5 bits. No number of bytes has an encoding of these lengths.
    for (const length of [1, 3, 6, 9, 11, 14, 51]) {
      assert.equal(decode('0'.repeat(length)), undefined, `${length} characters`)
    }
  })

  test('with spare bits that are not zero', () => {
    // 52 characters have 260 bits, 32 bytes 256: the first character has only its lowest bit.
    const rest = '0'.repeat(51)
    assert.notEqual(decode(`0${rest}`), undefined)
    assert.notEqual(decode(`1${rest}`), undefined)
    for (const first of alphabet.slice(2)) assert.equal(decode(first + rest), undefined, first)
  })
})
