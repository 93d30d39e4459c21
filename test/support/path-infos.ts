// Path infos: invented ones, and those of real Nix.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { alphabet } from '../../src/nix/base32.ts'
import { parseHash } from '../../src/nix/hash.ts'
import type { Hash } from '../../src/nix/hash.ts'
import { sortedReferences } from '../../src/nix/path-info.ts'
import type { PathInfo } from '../../src/nix/path-info.ts'
import { toStorePath } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import type { NixPathInfo } from './real-nix.ts'

export function storePath(text: string): StorePath {
  const path = toStorePath(text)
  assert.ok(path, `${text} is no store path`)
  return path
}

export function hash(text: string): Hash {
  const parsed = parseHash(text)
  assert.ok(parsed, `${text} is no hash`)
  return parsed
}

/** The path info of real Nix, as our own type. */
export function toPathInfo(info: NixPathInfo): PathInfo {
  return {
    path: storePath(info.path),
    narHash: hash(info.narHash),
    narSize: info.narSize,
    references: sortedReferences(info.references.map(storePath)),
    signatures: info.signatures,
    ...(info.deriver && { deriver: storePath(info.deriver) }),
    ...(info.ca && { ca: info.ca }),
  }
}

export const anyStorePath: fc.Arbitrary<StorePath> = fc
  .tuple(
    fc.string({ unit: fc.constantFrom(...alphabet.split('')), minLength: 32, maxLength: 32 }),
    fc.stringMatching(/^[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]{0,40}$/),
  )
  .map(([hashPart, name]) => storePath(`/nix/store/${hashPart}-${name}`))

export const anySha256: fc.Arbitrary<Hash> = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((digest) => ({ algorithm: 'sha256', hex: Buffer.from(digest).toString('hex') }))

const narSize = fc.oneof(
  fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  fc.integer({ min: 2 ** 32, max: 2 ** 53 - 1 }),
)

/** A possible closure: in order, and without cycles except self-references. */
export const anyClosure: fc.Arbitrary<PathInfo[]> = fc
  .uniqueArray(
    fc.record({
      path: anyStorePath,
      narHash: anySha256,
      narSize,
      self: fc.boolean(),
      references: fc.array(fc.nat(), { maxLength: 8 }),
    }),
    { selector: ({ path }) => path, maxLength: 40 },
  )
  .map((records) => {
    const sorted = records.toSorted((a, b) => (a.path < b.path ? -1 : 1))
    return sorted.map(({ path, narHash, narSize, self, references }, index) => {
      const before = references.flatMap((number) => sorted[number % (index + 1)]?.path ?? [])
      const others = before.filter((reference) => reference !== path)
      return {
        path,
        narHash,
        narSize,
        references: sortedReferences(self ? [...others, path] : others),
        signatures: [],
      }
    })
  })
