import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { NetimageError, type ErrorCode, type ErrorDetails } from '../../../src/errors.ts'
import { dumpNar } from '../../../src/nix/nar/dump.ts'
import { restoreTo } from '../../../src/nix/nar/restore.ts'
import { removeTree } from '../../../src/remove-tree.ts'
import { inReusedPieces, pieceSizes } from '../../support/chunks.ts'
import { netimageError } from '../../support/errors.ts'
import {
  emptyFile,
  encodeNar,
  feedNar,
  inOneDirectory,
  narDirectory,
  narEntry,
  narNode,
  narStrings,
} from '../../support/nar.ts'
import type { NarNode } from '../../support/nar.ts'
import { filterThrough, plainNix } from '../../support/programs.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'

const directory = temporaryDirectory()
const fresh = freshNames(directory)

function restore(pieces: Iterable<Buffer>, destination: string): void {
  const restored = restoreTo(destination)
  try {
    feedNar(pieces, restored)
  } finally {
    restored.abandon()
  }
}

function dump(path: string): Buffer {
  const chunks: Buffer[] = []
  dumpNar(path, (chunk) => void chunks.push(Buffer.from(chunk)))
  return Buffer.concat(chunks)
}

/** `nix-store --restore` does not set these. The store sets modes and times later. */
function withoutStoreModes(path: string): string[] {
  return describeTree(path, { owners: false, times: false }).map((line) => {
    const [, type, name, mode = '', rest] = /^(\w+) (".*") ([0-7]+)(.*)$/.exec(line) ?? []
    const executable = type === 'file' && (Number.parseInt(mode, 8) & 0o100) !== 0
    return [type, name, executable, rest].join(' ')
  })
}

function fileEntry(name: string, contents = name, executable = false): NarNode {
  const node: NarNode = { type: 'file', executable, contents: Buffer.from(contents) }
  return { type: 'directory', entries: [{ name: Buffer.from(name, 'latin1'), node }] }
}

test('random trees are the same on the disk, with chunks of any size', () => {
  fc.assert(
    fc.property(narNode, pieceSizes, (node, sizes) => {
      const nar = encodeNar(node)
      const path = fresh()
      restore(inReusedPieces(nar, sizes), path)
      assert.ok(dump(path).equals(nar))
      for (const line of describeTree(path)) {
        assert.match(line, /^(directory ".*" 555|file ".*" (444|555)|symlink ".*" 777) mtime 1000 /)
      }
    }),
    { numRuns: 80 },
  )
})

test('random trees are restored as in Nix', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(narNode, { minLength: 20, maxLength: 40 }), async (nodes) => {
      const nar = encodeNar(inOneDirectory(nodes))
      const [ours, theirs] = [fresh(), fresh()]
      restore(inReusedPieces(nar, [4096]), ours)
      await filterThrough('nix-store', ['--restore', theirs], { input: nar, environment: plainNix })
      assertSameLines(withoutStoreModes(ours), withoutStoreModes(theirs))
    }),
    { numRuns: 3, endOnFailure: true },
  )
})

test('names are bytes: invalid UTF-8, newlines, and two similar Unicode names', () => {
  const names = ['caf\xe9', '\xff', 'new\nline', 'A', 'a', ' ', '-rf', 'e\xcc\x81', '\xc3\xa9']
  const entries = names
    .map((name) => Buffer.from(name, 'latin1'))
    .toSorted((a, b) => a.compare(b))
    .map((name): { name: Buffer; node: NarNode } => ({
      name,
      node: { type: 'directory', entries: [{ name, node: { type: 'symlink', target: name } }] },
    }))
  const path = fresh()
  restore([encodeNar({ type: 'directory', entries })], path)
  const found = readdirSync(path, { encoding: 'latin1' })
  assert.deepEqual(found.toSorted(), names.toSorted())
  assert.ok(dump(path).equals(encodeNar({ type: 'directory', entries })))
})

test('modes do not depend on the umask', () => {
  const nar = join(directory, 'umask.nar')
  const node: NarNode = {
    type: 'directory',
    entries: [
      { name: Buffer.from('directory'), node: { type: 'directory', entries: [] } },
      ...['executable', 'file'].map((name) => ({
        name: Buffer.from(name),
        node: {
          type: 'file' as const,
          executable: name === 'executable',
          contents: Buffer.from(name),
        },
      })),
    ],
  }
  writeFileSync(nar, encodeNar(node))
  const source = pathToFileURL(join(import.meta.dirname, '../../../src/nix/nar')).href
  for (const umask of ['000', '022', '027', '077']) {
    const path = fresh()
    const script = `
      import { readFileSync } from 'node:fs'
      const { createNarParser } = await import('${source}/parse.ts')
      const { restoreTo } = await import('${source}/restore.ts')
      const bytes = readFileSync(process.argv[1])
      process.umask('${umask}')
      const parser = createNarParser(restoreTo(process.argv[2]))
      parser.write(bytes)
      parser.end()
    `
    execFileSync(process.execPath, ['--input-type=module', '--eval', script, nar, path])
    const modes = describeTree(path).map((line) => line.split(' ').slice(0, 3).join(' '))
    const expected = [
      'directory "." 555',
      'directory "./directory" 555',
      'file "./executable" 555',
      'file "./file" 444',
    ]
    assert.deepEqual(modes, expected, `umask ${umask}`)
  }
})

suite('an existing file is not changed', () => {
  const nars: Record<string, Buffer> = {
    'a file': encodeNar({ type: 'file', executable: false, contents: Buffer.from('new') }),
    'a directory': encodeNar(fileEntry('kept', 'new')),
    'a symlink': encodeNar({ type: 'symlink', target: Buffer.from('new') }),
  }
  for (const [name, nar] of Object.entries(nars)) {
    test(name, () => {
      const outside = fresh()
      mkdirSync(outside)
      writeFileSync(join(outside, 'kept'), 'old')
      const occupants: ((path: string) => void)[] = [
        (path) => writeFileSync(path, 'old'),
        (path) => mkdirSync(path),
        (path) => symlinkSync(outside, path),
        (path) => symlinkSync(join(outside, 'new'), path),
      ]
      for (const occupy of occupants) {
        const path = fresh()
        occupy(path)
        const before = describeTree(path)
        assertFails(() => restore([nar], path), { file: path })
        assert.deepEqual(describeTree(path), before)
        assert.deepEqual(readdirSync(outside), ['kept'])
        assert.equal(readFileSync(join(outside, 'kept'), 'utf8'), 'old')
      }
    })
  }
})

test('a destination without a parent is an error', () => {
  const nar = encodeNar(fileEntry('name'))
  const path = join(fresh(), 'child')
  assertFails(() => restore([nar], path), { file: path })
})

function assertFails(
  action: () => void,
  details: ErrorDetails,
  code: ErrorCode = 'file-system',
): void {
  assert.throws(action, netimageError(code, details))
}

suite('nothing is written outside the destination', () => {
  const victim = join(directory, 'victim')
  mkdirSync(victim)
  writeFileSync(join(victim, 'passwd'), 'root')

  const throughLink = (target: string) =>
    narDirectory(
      ...narEntry('a', 'type', 'symlink', 'target', target),
      ...narEntry('a', 'type', 'directory', ...narEntry('passwd', ...emptyFile)),
    )
  const nars = {
    'a symlink and a directory of the same name (CVE-2024-45593)': throughLink(victim),
    'the same, with a relative target': throughLink('../../victim'),
    'a symlink and a file of the same name': narDirectory(
      ...narEntry('a', 'type', 'symlink', 'target', join(victim, 'passwd')),
      ...narEntry('a', ...emptyFile),
    ),
    'a symlink and a name below it': narDirectory(
      ...narEntry('a', 'type', 'symlink', 'target', victim),
      ...narEntry('a/passwd', ...emptyFile),
    ),
    'a name with ".."': narDirectory(...narEntry('../../victim/passwd', ...emptyFile)),
    'an absolute name': narDirectory(...narEntry(join(victim, 'passwd'), ...emptyFile)),
    'a directory that is ".."': narDirectory(
      ...narEntry('..', 'type', 'directory', ...narEntry('outside', ...emptyFile)),
    ),
    'a name with a NUL': narDirectory(...narEntry('../outside\0', ...emptyFile)),
    'a root with two directories': Buffer.concat([
      narDirectory(),
      narStrings('nix-archive-1', '(', 'type', ...emptyFile.slice(1), ')'),
    ]),
  }
  for (const [name, nar] of Object.entries(nars)) {
    const field = name === 'a root with two directories' ? 'end' : 'name'
    test(name, () => {
      const parent = fresh()
      mkdirSync(parent)
      for (const sizes of [[1 << 20], [1]]) {
        const destination = join(parent, 'destination')
        assertFails(() => restore(inReusedPieces(nar, sizes), destination), { field }, 'bad-nar')
        removeTree(destination)
        assert.deepEqual(readdirSync(parent), [])
      }
      assert.deepEqual(readdirSync(victim), ['passwd'])
      assert.equal(readFileSync(join(victim, 'passwd'), 'utf8'), 'root')
    })
  }

  // The parser refuses such NARs. These tests show that restoring them is refused, too.
  suite('even if a parser accepts', () => {
    const name = Buffer.from('a')

    test('a directory in place of a symlink', () => {
      const path = fresh()
      const restored = restoreTo(path)
      restored.directory(Buffer.alloc(0))
      restored.symlink(name, Buffer.from(victim))
      assertFails(() => restored.directory(name), { file: join(path, 'a') })
    })

    test('a file in place of a symlink', () => {
      const path = fresh()
      const restored = restoreTo(path)
      restored.directory(Buffer.alloc(0))
      restored.symlink(name, Buffer.from(join(victim, 'new')))
      assertFails(() => restored.file(name, false, 0), { file: join(path, 'a') })
      assert.ok(!existsSync(join(victim, 'new')))
    })

    test('a file in place of a file', () => {
      const path = fresh()
      const restored = restoreTo(path)
      restored.directory(Buffer.alloc(0))
      restored.file(name, false, 0)
      restored.fileEnd()
      assertFails(() => restored.file(name, false, 0), { file: join(path, 'a') })
    })
  })
})

test('a stream that ends early leaves no file open', () => {
  const openFiles = () => readdirSync('/proc/self/fd').length
  const nar = encodeNar(fileEntry('name', 'x'.repeat(5000)))
  const before = openFiles()
  for (let count = 0; count < 20; count++) {
    assertFails(() => restore([nar.subarray(0, 3000)], fresh()), { field: 'end' }, 'bad-nar')
  }
  assert.equal(openFiles(), before)
})

test('the error says so if two names are the same on the disk', () => {
  const destination = fresh()
  const restore = restoreTo(destination)
  restore.directory(Buffer.alloc(0))
  // This simulates a disk on which `E` is the same name as the following `e`.
  writeFileSync(join(destination, 'e'), '')
  const told = (error: unknown) =>
    error instanceof NetimageError && /differ only in case/.test(error.hint ?? '')
  assert.throws(() => restore.file(Buffer.from('e'), false, 0), told)
  assert.throws(() => restore.directory(Buffer.from('e')), told)
  assert.throws(() => restore.symlink(Buffer.from('e'), Buffer.from('x')), told)
})
