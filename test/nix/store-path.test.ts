import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import {
  baseNameOf,
  compareStorePaths,
  fromBaseName,
  hashPartOf,
  nameOf,
  splitStorePath,
  toStorePath,
} from '../../src/nix/store-path.ts'
import { alphabet } from '../../src/nix/base32.ts'
import { filterThrough, plainNix } from '../support/programs.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const hashPart = '0123456789abcdfghijklmnpqrsvwxyz'
const nameCharacters = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+._?=-'

const storeName = fc
  .string({ unit: fc.constantFrom(...nameCharacters.split('')), minLength: 1, maxLength: 211 })
  .filter((name) => !/^\.\.?(-|$)/.test(name))
const storeHashPart = fc.string({
  unit: fc.constantFrom(...alphabet.split('')),
  minLength: 32,
  maxLength: 32,
})

test('a store path has a hash part and a name', () => {
  fc.assert(
    fc.property(storeHashPart, storeName, (hash, name) => {
      const text = `/nix/store/${hash}-${name}`
      const path = toStorePath(text)
      assert.ok(path, text)
      assert.equal(path, text)
      assert.equal(hashPartOf(path), hash)
      assert.equal(nameOf(path), name)
      assert.equal(baseNameOf(path), `${hash}-${name}`)
      assert.equal(fromBaseName(`${hash}-${name}`), path)
    }),
  )
})

const goodNames = [
  ['a', '0', '+', '_', '?', '=', '-', 'x.drv', '.a', '...', '.a-', '..a', '-.', 'a..', '--'],
  ['n'.repeat(211)],
].flat()
/** Names that all versions of Nix refuse. */
const badNames = [
  ['', 'a b', ' a', 'a ', 'a\n', 'a\tb', 'a/b', '/', '../x', 'a~', 'a:b', 'a@b', 'a,b', 'a%41'],
  ['a*', '$a', 'a;b', '"a"', "'a'", 'a\\b', 'é', 'a\u{301}', '\u{ff0e}', 'a#b', '(a)', '{a}'],
  ['n'.repeat(212)],
].flat()
/** Names that newer versions of Nix refuse, because they look like parts of a path. */
const pathLikeNames = ['.', '..', '.-a', '..-a', '.-', '..-']

suite('names', () => {
  for (const name of goodNames) {
    test(`${JSON.stringify(name)} is valid`, () => {
      assert.ok(toStorePath(`/nix/store/${hashPart}-${name}`))
    })
  }
  for (const name of [...badNames, ...pathLikeNames, 'a\0b']) {
    test(`${JSON.stringify(name)} is not valid`, () => {
      assert.equal(toStorePath(`/nix/store/${hashPart}-${name}`), undefined)
      assert.equal(fromBaseName(`${hashPart}-${name}`), undefined)
    })
  }

  test('real Nix agrees', async () => {
    const store = temporaryDirectory()
    /** The message of Nix about a path that it does not have. */
    const complaint = async (name: string): Promise<string> => {
      const path = `/nix/store/${hashPart}-${name}`
      const args = ['--store', store, '--query', '--hash', path]
      try {
        await filterThrough('nix-store', args, { environment: plainNix })
      } catch (error) {
        return String(error)
      }
      return 'none'
    }
    for (const name of goodNames) {
      if (!name.startsWith('.')) assert.match(await complaint(name), /is not valid/, name)
    }
    for (const name of badNames.filter((name) => !name.includes('/'))) {
      assert.doesNotMatch(await complaint(name), /is not valid|none/, name)
    }
  })
})

suite('a text that is not a store path', () => {
  const texts = [
    '',
    '/',
    '/nix/store',
    '/nix/store/',
    `/nix/store/${hashPart}`,
    `/nix/store/${hashPart}-`,
    `/nix/store/${hashPart}name`,
    `/nix/store/${hashPart.slice(1)}-name`,
    `/nix/store/${hashPart}0-name`,
    `/nix/store/e${hashPart.slice(1)}-name`,
    `/nix/store/${hashPart.toUpperCase()}-name`,
    `/nix/store/${hashPart}-name/`,
    `/nix/store/${hashPart}-name/bin`,
    `/nix/store/${hashPart}-name\n`,
    `/nix/store//${hashPart}-name`,
    `/nix/store/./${hashPart}-name`,
    `/nix/store/../store/${hashPart}-name`,
    `/gnu/store/${hashPart}-name`,
    `/root/nix/store/${hashPart}-name`,
    `nix/store/${hashPart}-name`,
    `${hashPart}-name`,
    `\n/nix/store/${hashPart}-name`,
    `/nix/store\n/${hashPart}-name`,
  ]
  for (const text of texts) {
    test(JSON.stringify(text), () => assert.equal(toStorePath(text), undefined))
  }

  test('a base name with ".."', () => {
    for (const name of ['..', '.', `../${hashPart}-name`, `${hashPart}-name/..`, `/nix/store/x`]) {
      assert.equal(fromBaseName(name), undefined, name)
    }
  })
})

suite('splitStorePath', () => {
  const base = `/nix/store/${hashPart}-name`
  const expected: Record<string, string | undefined> = {
    [base]: '',
    [`${base}/`]: '',
    [`${base}///`]: '',
    [`${base}/bin`]: '/bin',
    [`${base}/bin/`]: '/bin',
    [`${base}/bin/sh`]: '/bin/sh',
    [`${base}//bin`]: '//bin',
    [`${base}/new\nline`]: '/new\nline',
    [`${base}/../x`]: '/../x',
    [`${base}-more/x`]: '/x',
    [`${base} /x`]: undefined,
    [`${base}\n`]: undefined,
    [`/nix/store//${hashPart}-name`]: undefined,
    [`/mnt${base}`]: undefined,
    [`.${base}`]: undefined,
    '/nix/store/': undefined,
    '/nix/store': undefined,
    '/nix/store/.links/x': undefined,
    '': undefined,
  }
  for (const [path, rest] of Object.entries(expected)) {
    test(JSON.stringify(path), () => assert.equal(splitStorePath(path)?.rest, rest))
  }

  test('gives both parts of any path in the store', () => {
    const rest = fc.string().map((text) => `/${text}`)
    fc.assert(
      fc.property(storeHashPart, storeName, rest, (hash, name, rest) => {
        const split = splitStorePath(`/nix/store/${hash}-${name}${rest}`)
        assert.equal(split?.storePath, `/nix/store/${hash}-${name}`)
        assert.equal(split.rest, rest.replace(/\/+$/, ''))
      }),
    )
  })
})

test('store paths sort by their bytes', () => {
  const paths = fc.array(
    fc.tuple(storeHashPart, storeName).map(([hash, name]) => fromBaseName(`${hash}-${name}`)),
    { maxLength: 20 },
  )
  fc.assert(
    fc.property(paths, (paths) => {
      const known = paths.filter((path) => path !== undefined)
      assert.equal(known.length, paths.length)
      const inBytes = known.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      assert.deepEqual(known.toSorted(compareStorePaths), inBytes)
    }),
  )
  // The order of a locale would be the reverse.
  const [upper, lower] = [fromBaseName(`${hashPart}-B`), fromBaseName(`${hashPart}-a`)]
  assert.ok(upper && lower && compareStorePaths(upper, lower) < 0)
  assert.equal(compareStorePaths(upper, upper), 0)
})
