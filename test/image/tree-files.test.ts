import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'
import { escapeBytes, hashFile, listTree, treeFileSchema } from '../../src/tree-files.ts'
import { netimageError } from '../support/errors.ts'
import { narNode, writeNode } from '../support/nar.ts'
import type { NarNode } from '../support/nar.ts'
import { filterThrough } from '../support/programs.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const fresh = freshNames(temporaryDirectory())

/** Bytes with text, escapes and broken UTF-8. */
const bytes = fc
  .array(
    fc.oneof(
      fc.constantFrom('\\', '\\\\', '\\x', '\\xff', 'x', 'ff', '\n', 'é', '😀', '\u{feff}'),
      fc.string({ maxLength: 3 }),
      fc.uint8Array({ maxLength: 3 }).map((bytes) => Buffer.from(bytes)),
    ),
    { maxLength: 6 },
  )
  .map((parts) => Buffer.concat(parts.map((part) => Buffer.from(part))))

/** The bytes of an escaped name, by the rule in docs/image.md. */
function unescape(text: string): Buffer {
  const parts = text.match(/\\\\|\\x[0-9a-f]{2}|[^\\]+/g) ?? []
  assert.equal(parts.join(''), text, 'there is a backslash that escapes nothing')
  return Buffer.concat(
    parts.map((part) => {
      if (part === '\\\\') return Buffer.from('\\')
      return part.startsWith('\\x') ? Buffer.from(part.slice(2), 'hex') : Buffer.from(part)
    }),
  )
}

suite('escaped bytes', () => {
  test('can be decoded, so that no two names look the same', () => {
    fc.assert(
      fc.property(bytes, (bytes) => assert.deepEqual(unescape(escapeBytes(bytes)), bytes)),
      { numRuns: 2000 },
    )
  })

  test('pass through JSON', () => {
    fc.assert(
      fc.property(bytes, (bytes) => {
        const text = escapeBytes(bytes)
        assert.equal(JSON.parse(JSON.stringify(text)), text)
        assert.ok(text.isWellFormed())
      }),
    )
  })

  test('are the text itself if they are text', () => {
    for (const text of ['', 'name', 'a b', 'é', 'e\u{301}', '😀', 'new\nline', '\u{feff}bom']) {
      assert.equal(escapeBytes(Buffer.from(text)), text)
    }
  })

  test('are written as numbers if they are not text', () => {
    assert.equal(escapeBytes(Buffer.from('caf\xe9', 'latin1')), 'caf\\xe9')
    assert.equal(escapeBytes(Buffer.from('a\\b')), 'a\\\\b')
    assert.equal(escapeBytes(Buffer.from('\\\xff', 'latin1')), '\\x5c\\xff')
    // A surrogate, and a slash with more bytes than needed. Neither is UTF-8.
    assert.equal(escapeBytes(Buffer.from([0xed, 0xa0, 0x80])), '\\xed\\xa0\\x80')
    assert.equal(escapeBytes(Buffer.from([0xc0, 0xaf])), '\\xc0\\xaf')
  })
})

const sha256 = (contents: Buffer | string) => createHash('sha256').update(contents).digest('hex')

const nothing = () => false

test('a tree is listed in byte order, with all facts about its files', async () => {
  const root = fresh()
  mkdirSync(join(root, 'b'), { recursive: true })
  mkdirSync(join(root, 'a.d'))
  writeFileSync(join(root, 'b/file'), 'contents')
  writeFileSync(join(root, 'a'), '')
  writeFileSync(join(root, 'b-'), 'run')
  chmodSync(join(root, 'b-'), 0o4755)
  chmodSync(join(root, 'a'), 0o600)
  chmodSync(join(root, 'b/file'), 0o444)
  chmodSync(join(root, 'a.d'), 0o1777)
  chmodSync(join(root, 'b'), 0o755)
  symlinkSync('/does/not/exist', join(root, 'link'))
  symlinkSync(Buffer.from('\xff', 'latin1'), Buffer.from(`${root}/caf\xe9`, 'latin1'))
  assert.deepEqual(await listTree(root, nothing), [
    { type: 'file', path: 'a', mode: '0600', size: 0, sha256: sha256('') },
    { type: 'directory', path: 'a.d', mode: '1777' },
    { type: 'directory', path: 'b', mode: '0755' },
    { type: 'file', path: 'b/file', mode: '0444', size: 8, sha256: sha256('contents') },
    { type: 'file', path: 'b-', mode: '4755', size: 3, sha256: sha256('run') },
    { type: 'symlink', path: 'caf\\xe9', target: '\\xff' },
    { type: 'symlink', path: 'link', target: '/does/not/exist' },
  ])
})

test('skipped files are not read', async () => {
  const root = fresh()
  mkdirSync(join(root, 'skipped/below'), { recursive: true })
  await filterThrough('mkfifo', [join(root, 'skipped/pipe')])
  writeFileSync(join(root, 'kept'), '')
  const asked: string[] = []
  const files = await listTree(root, (path) => {
    asked.push(path)
    return path === 'skipped'
  })
  assert.deepEqual(
    files.map((file) => file.path),
    ['kept'],
  )
  assert.deepEqual(asked, ['kept', 'skipped'])
})

test('random trees are listed whole, in the form of the manifest', async () => {
  await fc.assert(
    fc.asyncProperty(narNode, async (node) => {
      if (node.type !== 'directory') return
      const root = fresh()
      writeNode(Buffer.from(root), node)
      const files = await listTree(root, nothing)
      assert.deepEqual(v.parse(v.array(treeFileSchema), JSON.parse(JSON.stringify(files))), files)
      const found = files.map((file) => {
        if (file.type === 'symlink') return [file.path, unescape(file.target).toString('latin1')]
        return [file.path, file.type === 'file' ? file.sha256 : '']
      })
      assert.deepEqual(found, [...expectedFiles(node, Buffer.alloc(0))])
    }),
    { numRuns: 60 },
  )
})

/** Directories before the files in them. */
function* expectedFiles(node: NarNode, path: Buffer): Generator<[path: string, content: string]> {
  if (node.type !== 'directory') return
  for (const { name, node: child } of node.entries) {
    const below = path.length > 0 ? Buffer.concat([path, Buffer.from('/'), name]) : name
    if (child.type === 'directory') {
      yield [escapeBytes(below), '']
      yield* expectedFiles(child, below)
    } else {
      const content =
        child.type === 'file' ? sha256(child.contents) : child.target.toString('latin1')
      yield [escapeBytes(below), content]
    }
  }
}

suite('listing fails for', () => {
  test('a pipe', async () => {
    const root = fresh()
    mkdirSync(root)
    const file = join(root, 'pipe')
    await filterThrough('mkfifo', [file])
    await assert.rejects(listTree(root, nothing), netimageError('file-system', { file }))
  })

  test('a tree that does not exist', async () => {
    const file = fresh()
    await assert.rejects(listTree(file, nothing), netimageError('file-system', { file }, /ENOENT/))
  })
})

test('a large file is hashed as a whole', async () => {
  const file = fresh()
  const contents = Buffer.alloc(3_000_001, 'contents ')
  writeFileSync(file, contents)
  assert.equal(await hashFile(file), sha256(contents))
  rmSync(file)
  await assert.rejects(hashFile(file), /ENOENT/)
})
