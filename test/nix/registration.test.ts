import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'
import type { PathInfo } from '../../src/nix/path-info.ts'
import { formatRegistration, parseRegistration } from '../../src/nix/registration.ts'
import { buildShapesClosure } from '../support/closures.ts'
import type { ShapesClosure } from '../support/closures.ts'
import type { ErrorDetails } from '../../src/errors.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { anyClosure, hash, storePath, toPathInfo } from '../support/path-infos.ts'
import { filterThrough, plainNix } from '../support/programs.ts'
import { createNixWorld } from '../support/real-nix.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const fresh = freshNames(directory)
const closureInfoFile = join(import.meta.dirname, '../support/closure-info.nix')

/** The path infos of a store without files after it has loaded the registration. */
async function loadedByNix(registration: string): Promise<string> {
  const nixStore = async (args: string[], input = '') => {
    const options = { input: Buffer.from(input), environment: plainNix }
    return (await filterThrough('nix-store', ['--store', root, ...args], options)).toString()
  }
  const root = fresh()
  await nixStore(['--load-db'], registration)
  return await nixStore(['--dump-db'])
}

const withoutDeriverAndTrust = ({ path, narHash, narSize, references }: PathInfo): PathInfo => ({
  path,
  narHash,
  narSize,
  references,
  signatures: [],
})

suite('the registration of a closure of real Nix', () => {
  let world: NixWorld
  let closure: ShapesClosure
  let infos: PathInfo[]

  before(async () => {
    world = await createNixWorld(join(directory, 'world'))
    closure = await buildShapesClosure(world)
    const known = (await world.pathInfo(closure.paths)).map(toPathInfo)
    infos = known.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  })

  test('is the same as that of nixpkgs’s closureInfo', async () => {
    // Nix gives the builder the closure as JSON. closureInfo makes lines from it with
    // [.path, .narHash, .narSize, "", (.references | length)] + .references
    const shell = closure.shapes['sourceTree'] ?? ''
    const strings = { shell, root: closure.everything }
    const [output] = await world.build({ file: closureInfoFile }, { strings })
    assert.ok(output)
    const attributes = v.parse(
      v.object({
        closure: v.array(
          v.object({
            path: v.string(),
            narHash: v.string(),
            narSize: v.number(),
            references: v.array(v.string()),
          }),
        ),
      }),
      JSON.parse(await readFile(world.realPath(output), 'utf8')),
    )
    const lines = attributes.closure.flatMap(({ path, narHash, narSize, references }) =>
      [[path, narHash, narSize, '', references.length], references].flat(),
    )
    assert.ok(attributes.closure.length > 100)
    assert.equal(formatRegistration(infos), lines.map((line) => `${line}\n`).join(''))
  })

  test('is read from the dump of Nix, including derivers', async () => {
    const dumped = await world.nixStore(['--dump-db', ...closure.paths])
    const parsed = parseRegistration(dumped, 'the dump')
    const byPath = new Map(parsed.map((info) => [info.path, info]))
    assert.equal(byPath.size, infos.length)
    for (const info of infos) {
      const { deriver } = info
      const expected = { ...withoutDeriverAndTrust(info), ...(deriver && { deriver }) }
      assert.deepEqual(byPath.get(info.path), expected)
    }
  })

  test('gives another Nix store the same path infos', async () => {
    const dumped = await loadedByNix(formatRegistration(infos))
    assert.deepEqual(
      sorted(parseRegistration(dumped, 'the dump')),
      infos.map(withoutDeriverAndTrust),
    )
  })
})

function sorted(infos: PathInfo[]): PathInfo[] {
  return infos.toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

test('parsing a formatted registration gives the same path infos', () => {
  fc.assert(
    fc.property(anyClosure, (closure) => {
      assert.deepEqual(parseRegistration(formatRegistration(closure), 'it'), closure)
    }),
  )
})

test('real Nix accepts every registration', async () => {
  await fc.assert(
    fc.asyncProperty(anyClosure, async (closure) => {
      const dumped = await loadedByNix(formatRegistration(closure))
      assert.deepEqual(sorted(parseRegistration(dumped, 'the dump')), closure)
    }),
    { numRuns: 3, endOnFailure: true },
  )
})

const path = storePath('/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a')
const other = storePath('/nix/store/1123456789abcdfghijklmnpqrsvwxyz-b')
const narHash = 'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0'
const record = [path, narHash, '120', `${other}.drv`, '2', path, other]

test('all lines of a record are read', () => {
  assert.deepEqual(parseRegistration(`${record.join('\n')}\n`, 'it'), [
    {
      path,
      narHash: hash(narHash),
      narSize: 120,
      deriver: `${other}.drv`,
      references: [path, other],
      signatures: [],
    },
  ])
  assert.deepEqual(parseRegistration('', 'it'), [])
})

test('a hash may lack its algorithm, as in a dump of Nix', () => {
  for (const digest of [hash(narHash).hex, narHash.slice('sha256:'.length)]) {
    const [info] = parseRegistration(`${[path, digest, '120', '', '0'].join('\n')}\n`, 'it')
    assert.deepEqual(info?.narHash, hash(narHash))
  }
})

suite('a registration is refused', () => {
  function assertRefused(text: string, details: ErrorDetails = {}): void {
    assert.throws(
      () => parseRegistration(text, 'the-registration'),
      netimageError('bad-store', { file: 'the-registration', ...details }),
    )
  }

  /** The record with one of its lines changed. */
  const withLine = (index: number, line: string) =>
    `${record.map((old, at) => (at === index ? line : old)).join('\n')}\n`

  const badLines: Record<string, [index: number, lines: string[]]> = {
    path: [0, ['', '/etc/passwd', path.slice(11), `${path}/bin`, `${path} `, `${path}\r`]],
    hash: [1, ['', 'sha256:', '0', `sha1:${'0'.repeat(40)}`, `sha256:${narHash}`]],
    size: [2, ['', '0', '-1', '1.5', '1e3', '0120', '+1', ' 1', 'many', '9007199254740993']],
    deriver: [3, ['none', 'unknown-deriver', ' ', '2', '/etc/passwd']],
    count: [4, ['', '-1', '1', '3', '02', '1e0', 'two', '1'.repeat(30), '9007199254740991']],
    reference: [5, ['', '/etc/passwd', path.slice(11), `${path} ${path}`, '..']],
  }
  for (const [what, [index, lines]] of Object.entries(badLines)) {
    for (const line of lines) {
      test(`whose ${what} is ${JSON.stringify(line)}`, () => {
        assertRefused(withLine(index, line))
      })
    }
  }

  test('with the number of the wrong line', () => {
    const good = `${record.join('\n')}\n`
    assertRefused(good + withLine(1, 'wrong'), { field: 'line 8' })
    assertRefused(good + withLine(6, 'wrong'), { field: 'line 13' })
  })

  test('that is cut off at any byte', () => {
    const whole = `${record.join('\n')}\n`
    for (let end = 1; end < whole.length; end++) assertRefused(whole.slice(0, end))
  })

  test('with a newline too many or too few, as in Nix', async () => {
    const whole = `${[path, narHash, '120', '', '0'].join('\n')}\n`
    assert.deepEqual(parseRegistration(await loadedByNix(whole), 'it').length, 1)
    for (const text of [`${whole}\n`, whole.slice(0, -1)]) {
      assertRefused(text)
      await assert.rejects(loadedByNix(text), /wrong length|missing input/)
    }
  })

  test('or is valid, for any bytes', () => {
    const whole = `${record.join('\n')}\n`.repeat(2)
    const change = fc.record({
      at: fc.nat(whole.length - 1),
      remove: fc.integer({ min: 0, max: 80 }),
      insert: fc.string({
        unit: fc.constantFrom('\n', '\n', '0', '1', '2', '9', '/', 'a', '-'),
        maxLength: 6,
      }),
    })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let text = whole
        for (const { at, remove, insert } of changes) {
          text = text.slice(0, at) + insert + text.slice(at + remove)
        }
        try {
          for (const info of parseRegistration(text, 'it')) assert.ok(info.narSize > 0)
        } catch (error) {
          assertError(error, 'bad-store')
        }
      }),
      { numRuns: 2000 },
    )
  })
})
