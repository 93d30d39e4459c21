import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { contentCheck, parseContentAddress, recomputesPath } from '../../src/nix/content-address.ts'
import { hashModulo } from '../../src/nix/hash-modulo.ts'
import { dumpNar } from '../../src/nix/nar/dump.ts'
import type { PathInfo } from '../../src/nix/path-info.ts'
import { sortedReferences } from '../../src/nix/path-info.ts'
import { isContentAddressed } from '../../src/nix/trust.ts'
import { buildShapesClosure } from '../support/closures.ts'
import { hash, storePath, toPathInfo } from '../support/path-infos.ts'
import { createNixWorld } from '../support/real-nix.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const hashes = {
  md5: 'md5:d41d8cd98f00b204e9800998ecf8427e',
  sha1: 'sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709',
  sha256: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  sha512: `sha512:${'cf83e135'.repeat(16)}`,
}

suite('an address', () => {
  for (const text of Object.values(hashes)) {
    test(`of ${text.split(':')[0]}`, () => {
      assert.deepEqual(parseContentAddress(`fixed:${text}`), { method: 'flat', hash: hash(text) })
      assert.deepEqual(parseContentAddress(`fixed:r:${text}`), { method: 'nar', hash: hash(text) })
    })
  }

  test('of a text has a SHA-256', () => {
    const { sha256, sha1, sha512 } = hashes
    assert.deepEqual(parseContentAddress(`text:${sha256}`), { method: 'text', hash: hash(sha256) })
    assert.equal(parseContentAddress(`text:${sha1}`), undefined)
    assert.equal(parseContentAddress(`text:${sha512}`), undefined)
  })

  const { sha256 } = hashes
  const texts = [
    ['', 'text:', 'fixed:', 'fixed:r:', sha256, `:${sha256}`, `r:${sha256}`],
    [`text:r:${sha256}`, `fixed:git:${sha256}`, `fixed:text:${sha256}`, `fixed:r:r:${sha256}`],
    [`Fixed:${sha256}`, ` fixed:${sha256}`, `fixed:${sha256} `, `fixed:${sha256}\n`],
    ['fixed:sha256', 'fixed:sha256:', 'fixed:sha256:0', `fixed:${sha256}0`],
    [`fixed:sha256-${Buffer.alloc(32).toString('base64')}`],
  ].flat()
  for (const text of texts) {
    test(`is not ${JSON.stringify(text)}`, () => {
      assert.equal(parseContentAddress(text), undefined)
    })
  }
})

function addressOf(info: PathInfo) {
  const address = parseContentAddress(info.ca ?? '')
  assert.ok(address, `${info.path} has the content address ${info.ca}`)
  return address
}

suite('content-addressed paths of real Nix', () => {
  const directory = temporaryDirectory()
  let world: NixWorld
  /** By the name of their kind. */
  const infos = new Map<string, PathInfo>()

  before(async () => {
    world = await createNixWorld(join(directory, 'world'))
    const paths: Record<string, string> = {}
    const file = join(directory, 'file')
    writeFileSync(file, 'a file\n')
    const tree = join(directory, 'tree')
    mkdirSync(tree)
    writeFileSync(join(tree, 'file'), 'in a tree\n')
    for (const algorithm of Object.keys(hashes)) {
      const flat = await world.nixStore(['--add-fixed', algorithm, file])
      const recursive = await world.nixStore(['--add-fixed', '--recursive', algorithm, tree])
      paths[`flat ${algorithm}`] = flat.trim()
      paths[`recursive ${algorithm}`] = recursive.trim()
    }
    const { shapes } = await buildShapesClosure(world)
    for (const name of [
      ['text', 'textWithReferences', 'selfReferenceRewritten', 'sourceTree'],
      ['flatSha256', 'flatSha512', 'recursiveSha256', 'recursiveSha1'],
    ].flat()) {
      paths[name] = shapes[name] ?? ''
    }
    // This path refers to itself and to others. The paths of its chain refer only to others.
    const rewritesSchema = v.object({ rewrites: v.record(v.string(), v.string()) })
    const symlinks = shapes['symlinks'] ?? ''
    const answer = await world.nix(['store', 'make-content-addressed', '--json', symlinks])
    const rewritten = v.parse(rewritesSchema, JSON.parse(answer)).rewrites[symlinks] ?? ''
    paths['rewritten: itself and others'] = rewritten
    const others = await world.closure([rewritten])
    paths['rewritten: others'] = others.find((path) => path.endsWith('-chain-5')) ?? ''

    const known = (await world.pathInfo(Object.values(paths))).map(toPathInfo)
    for (const [what, path] of Object.entries(paths)) {
      const info = known.find((info) => info.path === path)
      assert.ok(info, what)
      infos.set(what, info)
    }
  })

  test('are of every kind', () => {
    const references = (what: string) => infos.get(what)?.references.length ?? 0
    const self = (what: string) => {
      const info = infos.get(what)
      return info?.references.includes(info.path)
    }
    assert.equal(references('textWithReferences'), 2)
    assert.ok(references('rewritten: others') > 0 && !self('rewritten: others'))
    assert.ok(references('rewritten: itself and others') > 1)
    assert.ok(self('rewritten: itself and others') && self('selfReferenceRewritten'))
  })

  test('follow from their addresses', () => {
    for (const [what, info] of infos) {
      assert.ok(recomputesPath(info, addressOf(info)), what)
      assert.ok(isContentAddressed(info), what)
    }
  })

  test('do not follow from their addresses if any part is changed', () => {
    const stranger = storePath('/nix/store/0123456789abcdfghijklmnpqrsvwxyz-stranger')
    for (const [what, info] of infos) {
      const address = addressOf(info)
      const { path, references } = info
      const { algorithm, hex } = address.hash
      const others = references.filter((reference) => reference !== path)
      const withSelf = others.length === references.length ? [...references, path] : others
      const changedPaths: Record<string, PathInfo> = {
        'the name': { ...info, path: otherName(path), references: renamed(info) },
        'the hash part': {
          ...info,
          path: storePath(path.replace(/store\/./, path[11] === '0' ? 'store/1' : 'store/0')),
        },
        'a reference more': { ...info, references: sortedReferences([...references, stranger]) },
        'a self-reference more or less': { ...info, references: sortedReferences(withSelf) },
        ...(others.length > 0 && {
          'a reference less': { ...info, references: references.slice(1) },
        }),
      }
      for (const [field, changed] of Object.entries(changedPaths)) {
        assert.ok(!recomputesPath(changed, address), `${what}: ${field}`)
      }
      const digit = hex.startsWith('0') ? '1' : '0'
      const changedAddresses = {
        'the digest': { ...address, hash: { algorithm, hex: digit + hex.slice(1) } },
        'the algorithm': {
          ...address,
          hash: {
            algorithm: algorithm === 'sha256' ? ('sha1' as const) : ('sha256' as const),
            hex,
          },
        },
        'the method': {
          ...address,
          method: address.method === 'nar' ? ('flat' as const) : ('nar' as const),
        },
        ...(address.method !== 'text' && {
          'the method, for text': { ...address, method: 'text' as const },
        }),
      }
      for (const [field, changed] of Object.entries(changedAddresses)) {
        assert.ok(!recomputesPath(info, changed), `${what}: ${field}`)
      }
    }
  })

  function otherName(path: string) {
    return storePath(path.slice(0, -1) + (path.endsWith('x') ? 'y' : 'x'))
  }

  /** The references that the store would have if the path had the other name. */
  function renamed({ path, references }: PathInfo) {
    return references.map((reference) => (reference === path ? otherName(path) : reference))
  }

  test('have the content of their addresses', () => {
    const kinds = new Set<string>()
    for (const [what, info] of infos) {
      const check = contentCheck(info, addressOf(info))
      if (!check) {
        // The content address is the NAR hash.
        assert.equal(addressOf(info).hash.hex, info.narHash.hex, what)
        kinds.add('none')
        continue
      }
      kinds.add(check.selfHashPart === undefined ? check.over : 'modulo')
      const real = world.realPath(info.path)
      if (check.over === 'file') {
        const digest = createHash(check.algorithm).update(readFileSync(real)).digest('hex')
        assert.equal(digest, check.hex, what)
      } else {
        const hash = createHash(check.algorithm)
        const modulo = hashModulo(check.algorithm, check.selfHashPart ?? '-'.repeat(32))
        const self = check.selfHashPart !== undefined
        dumpNar(real, (chunk) => void (self ? modulo : hash).update(chunk))
        assert.equal(self ? modulo.hex() : hash.digest('hex'), check.hex, what)
      }
    }
    assert.deepEqual([...kinds].toSorted(), ['file', 'modulo', 'nar', 'none'])
  })

  test('are not content-addressed without an address, or with an invalid one', () => {
    for (const info of infos.values()) {
      const { ca, ...without } = info
      assert.ok(!isContentAddressed(without))
      assert.ok(!isContentAddressed({ ...without, ca: '' }))
      assert.ok(!isContentAddressed({ ...without, ca: `${ca}x` }))
    }
  })
})
