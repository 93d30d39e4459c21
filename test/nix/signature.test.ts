import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { inspect } from 'node:util'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { PathInfo } from '../../src/nix/path-info.ts'
import { nixosCacheKey, parsePublicKey, signedBy } from '../../src/nix/signature.ts'
import type { PublicKey } from '../../src/nix/signature.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { hash, storePath, toPathInfo } from '../support/path-infos.ts'
import { createNixWorld } from '../support/real-nix.ts'
import type { NixKey, NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { publishedInfo, publishedNarInfo, publishedPath } from '../support/published-path.ts'

const otherPath = storePath('/nix/store/0123456789abcdfghijklmnpqrsvwxyz-other')

/** The info with a small change in each signed field. */
function tampered(info: PathInfo): Record<string, PathInfo> {
  const { path, narHash, narSize, references } = info
  const flipped = (narHash.hex.startsWith('0') ? '1' : '0') + narHash.hex.slice(1)
  return {
    'the name in the path': { ...info, path: storePath(`${path}x`) },
    'the hash part of the path': {
      ...info,
      path: storePath(path.replace(/store\/./, path[11] === '0' ? 'store/1' : 'store/0')),
    },
    'the NAR hash': { ...info, narHash: { ...narHash, hex: flipped } },
    'the NAR size': { ...info, narSize: narSize + 1 },
    'a reference more': { ...info, references: [...references, otherPath] },
    'a reference less': { ...info, references: references.slice(1) },
    'another reference': { ...info, references: [otherPath, ...references.slice(1)] },
    'the order of the references': { ...info, references: references.toReversed() },
  }
}

suite('a path that real Nix has signed', () => {
  const directory = temporaryDirectory()
  let world: NixWorld
  let key: NixKey
  let otherKey: NixKey
  let sameName: NixKey
  let info: PathInfo
  let keys: Record<'right' | 'other' | 'sameName', PublicKey>

  before(async () => {
    world = await createNixWorld(join(directory, 'world'))
    key = await world.generateKey('test-1')
    otherKey = await world.generateKey('test-2')
    sameName = await world.generateKey('test-1')
    const reference = (name: string) => `\${builtins.toFile "${name}" "${name}"}`
    const expression = `builtins.toFile "signed" "${reference('a')} ${reference('b')}"`
    const path = await world.nix(['eval', '--impure', '--raw', '--expr', expression])
    await world.sign([path], key.secretKeyFile)
    const [known] = await world.pathInfo([path])
    assert.ok(known)
    info = toPathInfo(known)
    assert.equal(info.references.length, 2)
    keys = {
      right: parsePublicKey(key.publicKey),
      other: parsePublicKey(otherKey.publicKey),
      sameName: parsePublicKey(sameName.publicKey),
    }
  })

  test('is signed by that key, at any position among the trusted keys', () => {
    const { right, other, sameName } = keys
    for (const trusted of [[right], [other, right], [right, other], [sameName, right]]) {
      assert.equal(signedBy(info, trusted), right)
    }
  })

  test('is not signed by any other key', () => {
    assert.equal(signedBy(info, []), undefined)
    assert.equal(signedBy(info, [keys.other]), undefined)
    assert.equal(signedBy(info, [keys.sameName]), undefined)
  })

  test('may have signatures of several keys', async () => {
    await world.sign([info.path], otherKey.secretKeyFile)
    const [known] = await world.pathInfo([info.path])
    assert.ok(known)
    const signedTwice = toPathInfo(known)
    assert.equal(signedTwice.signatures.length, 2)
    assert.equal(signedBy(signedTwice, [keys.right]), keys.right)
    assert.equal(signedBy(signedTwice, [keys.other]), keys.other)
  })

  test('is not signed any more with any of its fields changed', () => {
    for (const [field, changed] of Object.entries(tampered(info))) {
      assert.equal(signedBy(changed, [keys.right]), undefined, field)
    }
  })

  test('is still signed if unsigned fields change', () => {
    const changed = { ...info, deriver: otherPath, ca: 'text:sha256:wrong' }
    assert.equal(signedBy(changed, [keys.right]), keys.right)
  })

  test('is not signed by a broken signature', () => {
    const [signature = ''] = info.signatures
    const [, base64 = ''] = signature.split(':')
    const bytes = Buffer.from(base64, 'base64')
    assert.equal(bytes.length, 64)
    for (let at = 0; at < bytes.length; at++) {
      const broken = Buffer.from(bytes)
      broken[at] = (broken[at] ?? 0) ^ 1
      const signatures = [`test-1:${broken.toString('base64')}`]
      assert.equal(signedBy({ ...info, signatures }, [keys.right]), undefined, `byte ${at}`)
    }
    const malformed = [
      '',
      ':',
      'test-1',
      'test-1:',
      `:${base64}`,
      base64,
      `test-2:${base64}`,
      `TEST-1:${base64}`,
      ` test-1:${base64}`,
      `test-1 :${base64}`,
      `test-1:${bytes.subarray(1).toString('base64')}`,
      `test-1:${Buffer.concat([bytes, bytes]).toString('base64')}`,
      `test-1:${bytes.toString('hex')}`,
      `test-1:${base64},${signature}`,
      `test-1:${base64}AAAA`,
      `test-1:\n${base64}`,
      `test-1:${'A'.repeat(86)}==`,
      'test-1:'.repeat(10_000),
    ]
    for (const text of malformed) {
      assert.equal(signedBy({ ...info, signatures: [text] }, [keys.right]), undefined, text)
    }
    const amongThem = { ...info, signatures: [...malformed, signature] }
    assert.equal(signedBy(amongThem, [keys.right]), keys.right)
  })
})

suite('a path that the public NixOS cache has signed', () => {
  const [hello, path, info] = [publishedNarInfo, publishedPath, publishedInfo]
  const key = parsePublicKey(nixosCacheKey)

  test('is signed by our default key', () => {
    assert.equal(signedBy(info, [key]), key)
  })

  test('is not signed any more with any of its fields changed', () => {
    for (const [field, changed] of Object.entries(tampered(info))) {
      assert.equal(signedBy(changed, [key]), undefined, field)
    }
  })

  test('is also signed if its NAR hash has another encoding', () => {
    const narHash = hash('sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i')
    const sri = `sha256-${Buffer.from(narHash.hex, 'hex').toString('base64')}`
    for (const text of [sri, `sha256:${narHash.hex}`]) {
      const again = parseNarInfo(hello.replace(/^NarHash: .*$/m, `NarHash: ${text}`), path, 'hello')
      assert.equal(signedBy(again, [key]), key)
    }
  })
})

suite('a public key', () => {
  test('has a name', () => {
    assert.equal(parsePublicKey(nixosCacheKey).name, 'cache.nixos.org-1')
  })

  const [, base64 = ''] = nixosCacheKey.split(':')
  const texts = [
    '',
    ':',
    'name',
    'name:',
    base64,
    `:${base64}`,
    `name:${base64.slice(4)}`,
    `name:AAAA${base64}`,
    `name:${base64},name:${base64}`,
    'name:not base64 at all, but of some length',
    '/etc/nix/key',
  ]
  for (const text of texts) {
    test(`is not ${JSON.stringify(text)}`, () => {
      assert.throws(() => parsePublicKey(text), netimageError('bad-public-key', { actual: text }))
    })
  }

  test('is not a secret key, and the message does not contain that key', () => {
    const secret = `name:${Buffer.alloc(64, 7).toString('base64')}`
    assert.throws(
      () => parsePublicKey(secret),
      (error) => {
        assertError(error, 'bad-public-key', { actual: 'name' })
        assert.ok(!inspect(error).includes(secret.slice(5)), 'the error contains the key')
        return true
      },
    )
  })
})
