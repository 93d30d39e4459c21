import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { encodeHeader, writeTar } from '../../src/image/tar.ts'
import type { TarHeader } from '../../src/image/tar.ts'
import { netimageError } from '../support/errors.ts'
import { inOneDirectory, narNode, writeNode } from '../support/nar.ts'
import { filterThrough } from '../support/programs.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'

const fresh = freshNames(temporaryDirectory())

async function archive(root: string): Promise<string> {
  const file = fresh()
  const { size, sha256 } = await writeTar(root, file, new AbortController().signal)
  const bytes = readFileSync(file)
  assert.equal(size, bytes.length)
  assert.equal(sha256, createHash('sha256').update(bytes).digest('hex'))
  assert.equal(size % 10_240, 0)
  return file
}

/** The same archive made by GNU tar, with options for the same owner, times and order. */
function byGnuTar(root: string): Promise<Buffer> {
  const owner = ['--owner=root:0', '--group=root:0', '--mtime=@1', '--hard-dereference']
  const order = ['--format=gnu', '--sort=name', '--directory', root]
  return filterThrough('tar', ['--create', ...owner, ...order, '.'])
}

async function assertAsGnuTar(root: string): Promise<void> {
  const ours = readFileSync(await archive(root))
  const theirs = await byGnuTar(root)
  assert.ok(ours.equals(theirs), `the archive of ${root} differs from GNU tar's`)
}

/** Unpacks the archive with the program. @returns the directory */
async function extracted(program: 'tar' | 'bsdtar', file: string): Promise<string> {
  const directory = fresh()
  mkdirSync(directory)
  await filterThrough(program, ['-xpf', file, '-C', directory])
  return directory
}

// Only root can give files to root.
const owners = process.geteuid?.() === 0

const long = (length: number, character = 'n') => character.repeat(length)

function directoryOf(files: Record<string, string | Buffer>): string {
  const root = fresh()
  mkdirSync(root)
  for (const [name, contents] of Object.entries(files)) {
    const path = join(root, name)
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, contents)
  }
  return root
}

suite('the same bytes as GNU tar', () => {
  test('random trees', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(narNode, { minLength: 20, maxLength: 40 }), async (nodes) => {
        const root = fresh()
        writeNode(Buffer.from(root), inOneDirectory(nodes))
        await assertAsGnuTar(root)
      }),
      { numRuns: 5, endOnFailure: true },
    )
  })

  test('an empty tree', () => assertAsGnuTar(directoryOf({})))

  test('names around the 100 bytes of a header, of all kinds', async () => {
    const root = directoryOf({})
    for (let length = 90; length <= 110; length++) {
      const name = String(length) + long(length - 2)
      writeFileSync(join(root, name.slice(0, -2)), '')
      mkdirSync(join(root, `${name}d`))
      symlinkSync(long(length, 't'), join(root, `${name}l`))
    }
    await assertAsGnuTar(root)
  })

  test('paths of more than 255 bytes, and of more than a block', async () => {
    const root = directoryOf({
      [`${long(200, 'a')}/${long(200, 'b')}/${long(200, 'c')}/file`]: 'deep',
      [`${long(255)}/${long(255)}`]: '',
    })
    symlinkSync(long(4095, 't'), join(root, 'long-target'))
    symlinkSync(long(511, 't'), join(root, 'target-of-a-block'))
    await assertAsGnuTar(root)
  })

  test('sizes around those of blocks and buffers', async () => {
    const noise = Buffer.alloc((1 << 20) + 600, 'not a power of two')
    const root = directoryOf({})
    for (const around of [0, 512, 1024, 1 << 20]) {
      for (const size of [around - 1, around, around + 1]) {
        if (size >= 0) writeFileSync(join(root, String(size)), noise.subarray(0, size))
      }
    }
    // The archive ends just before, at, or just after the end of a record.
    for (const blocks of [14, 15, 16, 17, 18]) {
      await assertAsGnuTar(directoryOf({ file: noise.subarray(0, blocks * 512) }))
    }
    await assertAsGnuTar(root)
  })

  test('modes', async () => {
    const root = directoryOf({})
    for (const mode of [0o444, 0o555, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o6711]) {
      const name = mode.toString(8)
      writeFileSync(join(root, name), '')
      chmodSync(join(root, name), mode)
      mkdirSync(join(root, `${name}.d`))
      chmodSync(join(root, `${name}.d`), mode)
    }
    await assertAsGnuTar(root)
  })
})

for (const program of ['tar', 'bsdtar'] as const) {
  test(`${program} unpacks the same files, owned by root`, async () => {
    const root = directoryOf({
      'directory/file': 'contents',
      empty: '',
      [`${long(150, 'a')}/${long(150, 'b')}/${long(255, 'c')}`]: 'deep',
      large: Buffer.alloc(3_000_001, 'large'),
      'new\nline': 'x',
    })
    writeFileSync(Buffer.from(`${root}/caf\xe9`, 'latin1'), 'not UTF-8')
    symlinkSync(long(300, 't'), join(root, 'link'))
    symlinkSync(Buffer.from('caf\xe9', 'latin1'), join(root, 'not-utf-8-target'))
    const found = await extracted(program, await archive(root))
    assertSameLines(
      describeTree(found, { owners, times: false }),
      describeTree(root, { owners, times: false }),
    )
    const [, ...below] = describeTree(found, { owners })
    for (const line of below) assert.match(line, owners ? / mtime 1000 0:0/ : / mtime 1000/)
  })
}

test('archives of equal trees are equal, even if times and the order of files differ', async () => {
  const files = { a: 'a', 'b/c': 'c', 'b/d': 'd', 'b-': 'e' }
  const [one, two] = [directoryOf(files), directoryOf({})]
  for (const [name, contents] of Object.entries(files).toReversed()) {
    mkdirSync(join(two, name, '..'), { recursive: true })
    writeFileSync(join(two, name), contents)
    utimesSync(join(two, name), 1_000_000, 2_000_000)
  }
  const archives = [one, two, one].map((root) => archive(root))
  const [first, ...others] = (await Promise.all(archives)).map((file) => readFileSync(file))
  for (const other of others) assert.ok(first?.equals(other))
})

suite('a header', () => {
  const header: TarHeader = { type: '0', name: Buffer.from('big'), mode: 0o644, size: 0 }

  async function listedSizes(size: number): Promise<string[]> {
    const file = fresh()
    const next = encodeHeader({ ...header, name: Buffer.from('next'), size: 3 })
    writeFileSync(file, encodeHeader({ ...header, size }))
    // A file with a hole takes no space, and a reader seeks over the hole.
    const padded = 512 + Math.ceil(size / 512) * 512
    truncateSync(file, padded)
    writeFileSync(file, Buffer.concat([next, Buffer.from('abc'), Buffer.alloc(509 + 1024)]), {
      flag: 'a',
    })
    const listings = await Promise.all([
      filterThrough('tar', ['--list', '--verbose', '--numeric-owner', '--file', file]),
      filterThrough('bsdtar', ['-tvf', file]),
    ])
    return listings.map((listing) => {
      const [first = '', second = ''] = listing.toString().split('\n')
      assert.match(second, / 3 .*next$/)
      assert.match(first, /big$/)
      return /(\d+) (1970-|Jan )/.exec(first)?.[1] ?? first
    })
  }

  for (const size of [8 ** 11 - 1, 8 ** 11, 8 ** 11 + 1, 9 * 2 ** 30, 2 ** 40]) {
    test(`of ${size} bytes is read by GNU tar and bsdtar`, async () => {
      assert.deepEqual(await listedSizes(size), [String(size), String(size)])
    })
  }

  test('has its sum, the owner 0, and the time stamp of a store', () => {
    const block = encodeHeader({ ...header, size: 5 })
    assert.equal(block.length, 512)
    const field = (at: number, length: number) => block.toString('latin1', at, at + length)
    assert.equal(field(100, 8), '0000644\0')
    assert.equal(field(108, 16), '0000000\0'.repeat(2))
    assert.equal(field(124, 12), '00000000005\0')
    assert.equal(field(136, 12), '00000000001\0')
    const sum = Number.parseInt(field(148, 6), 8)
    const blanked = Buffer.from(block).fill(' ', 148, 156)
    assert.equal(
      sum,
      blanked.reduce((total, byte) => total + byte, 0),
    )
  })
})

suite('errors', () => {
  test('an existing archive is not changed', async () => {
    const file = fresh()
    writeFileSync(file, 'mine')
    await assert.rejects(
      writeTar(directoryOf({}), file, new AbortController().signal),
      netimageError('file-system', { file }, /EEXIST/),
    )
    assert.equal(readFileSync(file, 'utf8'), 'mine')
  })

  test('a pipe cannot be part of an image', async () => {
    const root = directoryOf({})
    const file = join(root, 'pipe')
    await filterThrough('mkfifo', [file])
    await assert.rejects(archive(root), netimageError('file-system', { file }))
  })

  test('a tree that does not exist', async () => {
    const file = fresh()
    await assert.rejects(archive(file), netimageError('file-system', { file }, /ENOENT/))
  })

  test('an interruption ends the work between files', async () => {
    const root = directoryOf({ a: 'a', b: 'b' })
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    const file = fresh()
    await assert.rejects(writeTar(root, file, controller.signal), /enough/)
    assert.ok(existsSync(file))
  })
})
