import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { digestToBase32, formatHash, parseHash } from '../../src/nix/hash.ts'
import type { HashAlgorithm } from '../../src/nix/hash.ts'
import { plainNix } from '../support/programs.ts'
import { runProgram } from '../support/real-nix.ts'

const algorithms: HashAlgorithm[] = ['md5', 'sha1', 'sha256', 'sha512']

function nixHash(to: string, algorithm: string, hash: string): Promise<string> {
  const args = ['hash', to, '--type', algorithm, hash]
  return runProgram('nix', ['--extra-experimental-features', 'nix-command', ...args], {
    environment: plainNix,
  }).then((output) => output.trim())
}

for (const algorithm of algorithms) {
  test(`${algorithm} is read in every encoding of Nix`, async () => {
    const hex = createHash(algorithm).update('netimage').digest('hex')
    const [base32, base64, sri] = await Promise.all(
      ['to-base32', 'to-base64', 'to-sri'].map((to) => nixHash(to, algorithm, hex)),
    )
    const expected = { algorithm, hex }
    assert.deepEqual(parseHash(`${algorithm}:${hex}`), expected)
    assert.deepEqual(parseHash(`${algorithm}:${base32}`), expected)
    assert.deepEqual(parseHash(`${algorithm}:${base64}`), expected)
    assert.deepEqual(parseHash(sri ?? ''), expected)
    assert.equal(digestToBase32(expected), base32)
    assert.equal(formatHash(expected), `${algorithm}:${base32}`)
  })
}

test('parsing a formatted hash gives the same hash', () => {
  const hash = fc.constantFrom(...algorithms).chain((algorithm) => {
    const length = createHash(algorithm).digest().length
    return fc.uint8Array({ minLength: length, maxLength: length }).map((digest) => {
      return { algorithm, hex: Buffer.from(digest).toString('hex') }
    })
  })
  fc.assert(fc.property(hash, (hash) => assert.deepEqual(parseHash(formatHash(hash)), hash)))
})

suite('a text that is not a hash', () => {
  const hex = createHash('sha256').digest('hex')
  const base64 = createHash('sha256').digest('base64')
  const base32 = digestToBase32({ algorithm: 'sha256', hex })
  const texts = {
    'an empty text': '',
    'a bare digest': hex,
    'an algorithm without a digest': 'sha256:',
    'an algorithm that Nix does not have': `sha384:${hex}`,
    'an algorithm that is a property of every object': `constructor:${hex}`,
    'an algorithm in capitals': `SHA256:${hex}`,
    'another separator': `sha256=${hex}`,
    'a digest of another algorithm': `sha512:${hex}`,
    'a digest that is too short': `sha256:${hex.slice(2)}`,
    'a digest that is too long': `sha256:${hex}00`,
    'base16 with a wrong character': `sha256:g${hex.slice(1)}`,
    'base32 with a wrong character': `sha256:0e${base32.slice(2)}`,
    'base32 with spare bits': `sha256:z${base32.slice(1)}`,
    'base64 without its padding': `sha256:${base64.replace('=', '')}`,
    'base64 with spare bits': `sha256:${base64.slice(0, -2)}V=`,
    'base64 for URLs': `sha256-${Buffer.alloc(32, 0xff).toString('base64url')}=`,
    'SRI in base16': `sha256-${hex}`,
    'SRI in base32': `sha256-${base32}`,
    'something after it': `sha256:${hex}\n`,
    'something before it': ` sha256:${hex}`,
    'two hashes': `sha256-${base64} sha256-${base64}`,
    'an option of SRI': `sha256-${base64}?x`,
  }
  for (const [name, text] of Object.entries(texts)) {
    test(name, () => assert.equal(parseHash(text), undefined))
  }

  test('random changes of a hash are refused, or are the same hash in another encoding', () => {
    const change = fc.record({ at: fc.nat(), character: fc.string({ maxLength: 2 }) })
    fc.assert(
      fc.property(
        fc.constantFrom(`sha256:${base32}`, `sha256-${base64}`),
        change,
        (text, change) => {
          const at = change.at % text.length
          const changed = text.slice(0, at) + change.character + text.slice(at + 1)
          const hash = parseHash(changed)
          if (!hash) return
          const digest = Buffer.from(hash.hex, 'hex').toString('base64')
          const ways = [
            formatHash(hash),
            ...[':', '-'].map((sign) => hash.algorithm + sign + digest),
          ]
          assert.ok(ways.includes(changed), changed)
        },
      ),
      { numRuns: 2000, examples: [[`sha256-${base64}`, { at: 'sha256'.length, character: ':' }]] },
    )
  })
})
