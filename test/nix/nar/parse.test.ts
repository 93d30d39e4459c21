import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { inPieces, inReusedPieces, pieceSizes } from '../../support/chunks.ts'
import { assertError } from '../../support/errors.ts'
import { runInLittleMemory } from '../../support/limited-memory.ts'
import {
  emptyFile,
  encodeNar,
  narDirectory,
  narEntry,
  narLength,
  narNode,
  narStrings,
  parseNar,
  refusalOf,
} from '../../support/nar.ts'
import { narString } from '../../support/synthetic.ts'
import type { NarNode } from '../../support/nar.ts'

const magic = 'nix-archive-1'
const wholes = [1 << 20]

function assertRefused(nar: Buffer, why: RegExp): void {
  for (const sizes of [wholes, [1], [7], [8]]) {
    assert.match(refusalOf(inReusedPieces(nar, sizes)) ?? 'it was accepted', why)
  }
}

function directoriesWithin(depth: number): NarNode {
  let node: NarNode = { type: 'directory', entries: [] }
  for (let level = 1; level < depth; level++) {
    node = { type: 'directory', entries: [{ name: Buffer.from('d'), node }] }
  }
  return node
}

suite('a valid NAR', () => {
  test('gives the original tree, with chunks of any size', () => {
    fc.assert(
      fc.property(narNode, pieceSizes, (node, sizes) => {
        assert.deepEqual(parseNar(inReusedPieces(encodeNar(node), sizes)), node)
      }),
      { numRuns: 300 },
    )
  })

  test('may have empty chunks between others', () => {
    const nar = encodeNar({ type: 'file', executable: true, contents: Buffer.from('run') })
    const pieces = [...inPieces(nar, [5])].flatMap((piece) => [Buffer.alloc(0), piece])
    assert.deepEqual(parseNar([...pieces, Buffer.alloc(0)]), {
      type: 'file',
      executable: true,
      contents: Buffer.from('run'),
    })
  })

  test('may have names of 255 bytes and targets of 4095 bytes', () => {
    const name = Buffer.alloc(255, 0xff)
    const target = Buffer.alloc(4095, 'x')
    const node: NarNode = {
      type: 'directory',
      entries: [{ name, node: { type: 'symlink', target } }],
    }
    assert.deepEqual(parseNar(inReusedPieces(encodeNar(node), [100])), node)
  })

  test('may nest 64 directories', () => {
    const node = directoriesWithin(64)
    assert.deepEqual(parseNar([encodeNar(node)]), node)
  })

  test('may have names that only look dangerous', () => {
    const names = [' ', '\n', '...', '..a', '.a', '~', 'a..', '\\', '\u{ff0f}']
    const entries = names
      .map((name) => Buffer.from(name))
      .toSorted((a, b) => a.compare(b))
      .map((name): { name: Buffer; node: NarNode } => ({
        name,
        node: { type: 'file', executable: false, contents: Buffer.alloc(0) },
      }))
    assert.deepEqual(parseNar([encodeNar({ type: 'directory', entries })]), {
      type: 'directory',
      entries,
    })
  })

  test('may have names that are sorted as bytes but not as UTF-16', () => {
    const nar = narDirectory(
      ...narEntry('\u{fffd}', ...emptyFile),
      ...narEntry('\u{10000}', ...emptyFile),
    )
    assert.equal(refusalOf([nar]), undefined)
  })
})

suite('a NAR is refused', () => {
  const entriesNamed = (...names: (string | Buffer)[]) =>
    narDirectory(...names.flatMap((name) => narEntry(name, ...emptyFile)))

  const twice = (strings: string[]) => [...strings, ...strings]
  const deeper = narStrings('entry', '(', 'name', 'd', 'node', '(', 'type', 'directory')

  const hostile: Record<string, [Buffer, RegExp]> = {
    'that is empty': [Buffer.alloc(0), /cut off/],
    'with another magic': [
      narStrings('nix-archive-2', '(', 'type', ...emptyFile.slice(1), ')'),
      /does not begin as a NAR/,
    ],
    'of random text': [Buffer.alloc(200, '<html>'), /does not begin as a NAR/],
    'with a node without a parenthesis': [
      narStrings(magic, '[', 'type', 'regular', 'contents', '', ']'),
      /does not begin as a NAR/,
    ],
    'with a node of an unknown type': [
      narStrings(magic, '(', 'type', 'fifo', 'contents', '', ')'),
      /not a regular file, symlink or directory/,
    ],
    'with an entry with a node of an unknown type': [
      narDirectory(...narEntry('a', 'type', 'hardlink', 'target', 'b')),
      /not a regular file, symlink or directory/,
    ],
    'with entries that are not sorted': [entriesNamed('b', 'a'), /"a" does not sort after "b"/],
    'with an entry that comes twice': [entriesNamed('a', 'a'), /"a" does not sort after "a"/],
    'with entries that are sorted only as UTF-16': [
      entriesNamed('\u{10000}', '\u{fffd}'),
      /does not sort after/,
    ],
    'with an entry named "."': [entriesNamed('.'), /named "\."/],
    'with an entry named ".."': [entriesNamed('..'), /named "\.\."/],
    'with an entry without a name': [entriesNamed(''), /entry name of 0 bytes/],
    'with an entry name that is a path': [entriesNamed('a/b'), /slash/],
    'with an absolute entry name': [entriesNamed('/etc/passwd'), /slash/],
    'with an entry name with ".."': [entriesNamed('../a'), /slash/],
    'with a NUL in an entry name': [entriesNamed('a\0b'), /NUL/],
    'with an entry name of 256 bytes': [entriesNamed('n'.repeat(256)), /entry name of 256 bytes/],
    'with a symlink and a directory of the same name (CVE-2024-45593)': [
      narDirectory(
        ...narEntry('a', 'type', 'symlink', 'target', '/etc'),
        ...narEntry('a', 'type', 'directory', ...narEntry('passwd', ...emptyFile)),
      ),
      /"a" does not sort after "a"/,
    ],
    'with a symlink to nothing': [
      narStrings(magic, '(', 'type', 'symlink', 'target', '', ')'),
      /symlink target of 0 bytes/,
    ],
    'with a symlink target of 4096 bytes': [
      narStrings(magic, '(', 'type', 'symlink', 'target', 'x'.repeat(4096), ')'),
      /symlink target of 4096 bytes/,
    ],
    'with a NUL in a symlink target': [
      narStrings(magic, '(', 'type', 'symlink', 'target', 'a\0b', ')'),
      /NUL/,
    ],
    'with a symlink without a target': [
      narStrings(magic, '(', 'type', 'symlink', ')', '', '', ''),
      /symlink without a target/,
    ],
    'with a symlink of two targets': [
      narStrings(magic, '(', 'type', 'symlink', 'target', 'a', 'target', 'b', ')'),
      /symlink that does not end/,
    ],
    'with a file without contents': [
      narStrings(magic, '(', 'type', 'regular', ')', '', '', '', ''),
      /file without contents/,
    ],
    'with an executable without contents': [
      narStrings(magic, '(', 'type', 'regular', 'executable', '', ')', '', ''),
      /file without contents/,
    ],
    'with "executable" after the contents': [
      narStrings(magic, '(', 'type', 'regular', 'contents', 'a', 'executable', '', ')'),
      /file that does not end/,
    ],
    'with "executable" twice': [
      narStrings(magic, '(', 'type', 'regular', ...twice(['executable', '']), 'contents', 'a', ')'),
      /file without contents/,
    ],
    'with contents twice': [
      narStrings(magic, '(', 'type', 'regular', 'contents', 'a', 'contents', 'b', ')'),
      /file that does not end/,
    ],
    'with "executable" that is not empty': [
      narStrings(magic, '(', 'type', 'regular', 'executable', 'yes', 'contents', 'a', ')'),
      /file without contents/,
    ],
    'with a directory with something else in it': [
      narDirectory('file', '(', 'name', 'a', 'node', '(', ...emptyFile, ')', ')'),
      /neither goes on nor ends/,
    ],
    'with an entry whose node comes before its name': [
      narDirectory('entry', '(', 'node', '(', ...emptyFile, ')', 'name', 'a', ')'),
      /neither goes on nor ends/,
    ],
    'with an entry without a node': [
      narDirectory('entry', '(', 'name', 'a', ')', '', '', '', ''),
      /entry without a node/,
    ],
    'with an entry of two names': [
      narDirectory('entry', '(', 'name', 'a', 'name', 'b', 'node', '(', ...emptyFile, ')', ')'),
      /entry without a node/,
    ],
    'with an entry of two nodes': [
      narDirectory('entry', '(', 'name', 'a', ...twice(['node', '(', ...emptyFile, ')']), ')'),
      /entry that does not end/,
    ],
    'with 65 nested directories': [
      encodeNar(directoriesWithin(65)),
      /directories nested deeper than 64/,
    ],
    'with 100,000 nested directories (CVE-2026-44028)': [
      Buffer.concat([
        narStrings(magic, '(', 'type', 'directory'),
        ...Array.from({ length: 100_000 }, () => deeper),
      ]),
      /directories nested deeper than 64/,
    ],
    'followed by a byte': [
      Buffer.concat([encodeNar(directoriesWithin(1)), Buffer.alloc(1)]),
      /bytes after the end/,
    ],
    'followed by another NAR': [
      Buffer.concat([encodeNar(directoriesWithin(1)), encodeNar(directoriesWithin(1))]),
      /bytes after the end/,
    ],
  }

  for (const [name, [nar, why]] of Object.entries(hostile)) {
    test(name, () => assertRefused(nar, why))
  }

  test('with padding that is not zero, at any place', () => {
    const nar = encodeNar({
      type: 'directory',
      entries: [
        {
          name: Buffer.from('file'),
          node: { type: 'file', executable: true, contents: Buffer.from('abc') },
        },
        { name: Buffer.from('link'), node: { type: 'symlink', target: Buffer.from('file') } },
      ],
    })
    let padded = 0
    for (const at of paddingBytes(nar)) {
      const changed = Buffer.from(nar)
      changed[at] = 1
      assert.notEqual(refusalOf([changed]), undefined, `the padding at byte ${at}`)
      padded++
    }
    assert.ok(padded > 50)
  })

  /** The places of padding in a NAR. The lengths are enough to find them, without a NAR parser. */
  function* paddingBytes(nar: Buffer): Generator<number> {
    for (let at = 0; at < nar.length;) {
      const length = Number(nar.readBigUInt64LE(at))
      const end = at + 8 + length
      at += 8 + Math.ceil(length / 8) * 8
      for (let padding = end; padding < at; padding++) yield padding
    }
  }

  test('that is cut off at any byte', () => {
    fc.assert(
      fc.property(narNode, pieceSizes, (node, sizes) => {
        const nar = encodeNar(node)
        for (let end = 0; end < nar.length; end += nar.length > 2000 ? 97 : 1) {
          const cut = nar.subarray(0, end)
          assert.match(refusalOf(inPieces(cut, sizes)) ?? 'it was accepted', /cut off/)
        }
      }),
      { numRuns: 30 },
    )
  })

  test('with a length that is larger than any safe integer', () => {
    const begin = narStrings(magic, '(', 'type', 'regular', 'contents')
    for (const length of [2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const nar = Buffer.concat([begin, narLength(length), Buffer.alloc(64)])
      assertRefused(nar, /a file claims/)
    }
  })

  test('with a name or target that is larger than any memory', () => {
    const name = narStrings(magic, '(', 'type', 'directory', 'entry', '(', 'name')
    const target = narStrings(magic, '(', 'type', 'symlink', 'target')
    for (const begin of [name, target]) {
      for (const length of [2n ** 16n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 53n - 1n]) {
        // The parser refuses at once, and does not wait for that many bytes.
        assertRefused(Buffer.concat([begin, narLength(length)]), /of \d+ bytes/)
      }
      for (const length of [2n ** 53n, 2n ** 63n, 2n ** 63n + 1n, 2n ** 64n - 1n]) {
        assertRefused(Buffer.concat([begin, narLength(length)]), /claims \d+ \* 2\^32 bytes/)
      }
    }
  })

  test('with the position of the wrong byte', () => {
    const nar = narDirectory(...narEntry('b', ...emptyFile), ...narEntry('a', ...emptyFile))
    for (const sizes of [wholes, [1], [13]]) {
      const [, named] = /at byte (\d+):/.exec(refusalOf(inReusedPieces(nar, sizes)) ?? '') ?? []
      const at = Number(named)
      const badName = nar.indexOf(narString('a'))
      // The parser reads the name and the following words in one step.
      assert.ok(at >= badName && at <= badName + 64, `byte ${at}; the name is at ${badName}`)
    }
  })
})

suite('for any bytes', () => {
  /** Accepts only a NAR that is the same if it is written again. */
  function assertSound(bytes: Buffer, sizes: readonly number[]): void {
    let node: NarNode
    try {
      node = parseNar(inReusedPieces(bytes, sizes))
    } catch (error) {
      assertError(error, 'bad-nar')
      return
    }
    assert.ok(encodeNar(node).equals(bytes), 'what was accepted is not what was written')
  }

  test('a NAR with random changes is valid or is refused', () => {
    let accepted = 0
    const change = fc.record({ at: fc.nat(), value: fc.integer({ min: 1, max: 255 }) })
    fc.assert(
      fc.property(
        narNode,
        fc.array(change, { minLength: 1, maxLength: 3 }),
        pieceSizes,
        (...args) => {
          const [node, changes, sizes] = args
          const nar = encodeNar(node)
          for (const { at, value } of changes) {
            const place = at % nar.length
            nar[place] = (nar[place] ?? 0) ^ value
          }
          if (refusalOf([nar]) === undefined) accepted++
          assertSound(nar, sizes)
        },
      ),
      { numRuns: 2000 },
    )
    // Some changes must give a valid NAR. Otherwise this would test only refusals.
    assert.ok(accepted > 10, `${accepted} were accepted`)
  })

  test('the strings of a NAR in any order are a valid NAR or are refused', () => {
    const words = [
      ['(', ')', 'type', 'regular', 'executable', '', 'contents', 'symlink', 'target'],
      ['directory', 'entry', 'name', 'node', 'a', 'b'],
    ].flat()
    const edit = fc.record({
      at: fc.nat(),
      remove: fc.integer({ min: 0, max: 3 }),
      insert: fc.array(fc.constantFrom(...words), { maxLength: 3 }),
    })
    fc.assert(
      fc.property(narNode, fc.array(edit, { minLength: 1, maxLength: 3 }), (node, edits) => {
        const strings = stringsOf(encodeNar(node))
        for (const { at, remove, insert } of edits) {
          strings.splice(at % (strings.length + 1), remove, ...insert.map(narString))
        }
        assertSound(Buffer.concat(strings), [333])
      }),
      { numRuns: 1000 },
    )
  })

  function stringsOf(nar: Buffer): Buffer[] {
    const strings: Buffer[] = []
    for (let at = 0; at < nar.length;) {
      const end = at + 8 + Math.ceil(Number(nar.readBigUInt64LE(at)) / 8) * 8
      strings.push(nar.subarray(at, end))
      at = end
    }
    return strings
  }
})

suite('memory', () => {
  const program = join(import.meta.dirname, '../support/unbounded-program.ts')

  test('does not grow with the size of a file', async () => {
    const bytes = await runInLittleMemory(program, ['nar-file'])
    assert.equal(Number(bytes), 2 ** 31)
  })

  test('does not grow with the number of entries', async () => {
    await runInLittleMemory(program, ['nar-names'])
  })

  test('is not allocated for the size that a file claims', () => {
    const begin = narStrings(magic, '(', 'type', 'regular', 'contents')
    const claim = narLength(2n ** 53n - 1n)
    assert.match(refusalOf([begin, claim, Buffer.from('content')]) ?? '', /cut off/)
  })
})
