import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { ErrorCode } from '../../../src/errors.ts'
import { dumpNar } from '../../../src/nix/nar/dump.ts'
import { netimageError } from '../../support/errors.ts'
import { encodeNar, inOneDirectory, narNode, writeNode } from '../../support/nar.ts'
import type { NarNode } from '../../support/nar.ts'
import { filterThrough, plainNix } from '../../support/programs.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'

const directory = temporaryDirectory()
const fresh = freshNames(directory)

function dump(path: string): Buffer {
  const chunks: Buffer[] = []
  dumpNar(path, (chunk) => {
    chunks.push(Buffer.from(chunk))
    // Chunks are valid only during the call.
    chunk.fill(0xaa)
  })
  return Buffer.concat(chunks)
}

const realDump = (path: string) =>
  filterThrough('nix-store', ['--dump', path], { environment: plainNix })

function withFile(contents: Buffer | string, mode = 0o644): string {
  const path = fresh()
  writeFileSync(path, contents)
  chmodSync(path, mode)
  return path
}

async function assertAsNixDumps(path: string): Promise<void> {
  assert.ok(dump(path).equals(await realDump(path)), `the dump of ${path} differs from Nix's`)
}

test('random trees are dumped as in Nix', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(narNode, { minLength: 30, maxLength: 60 }), async (nodes) => {
      const node = inOneDirectory(nodes)
      const path = fresh()
      writeNode(Buffer.from(path), node)
      const nar = dump(path)
      assert.ok(nar.equals(encodeNar(node)))
      assert.ok(nar.equals(await realDump(path)))
    }),
    // Do not shrink a failure, because that takes minutes: its seed is enough.
    { numRuns: 4, endOnFailure: true },
  )
})

suite('a root of any kind', () => {
  test('a file', () => assertAsNixDumps(withFile('text')))
  test('an empty file', () => assertAsNixDumps(withFile('')))
  test('an executable file', () => assertAsNixDumps(withFile('#!/bin/sh\n', 0o755)))
  test('an empty directory', async () => {
    const path = fresh()
    mkdirSync(path)
    await assertAsNixDumps(path)
  })
  test('a symlink to nothing', async () => {
    const path = fresh()
    symlinkSync('/does/not/exist', path)
    await assertAsNixDumps(path)
  })
  test('a symlink to a directory', async () => {
    const path = fresh()
    symlinkSync('/', path)
    await assertAsNixDumps(path)
  })
})

test('files with sizes near the sizes of buffers', async () => {
  const path = fresh()
  mkdirSync(path)
  const noise = Buffer.alloc(600_000, 'noise that is not a power of two')
  for (const around of [8, 4096, 65_536, 262_144, 524_288]) {
    for (let size = around - 9; size <= around + 9; size++) {
      if (size >= 0) writeFileSync(join(path, String(size)), noise.subarray(0, size))
    }
  }
  await assertAsNixDumps(path)
})

test('the boundary of two buffers may be in any part of a NAR', () => {
  const name = (text: string) => Buffer.from(text)
  for (let size = 262_144 - 800; size <= 262_144; size += 8) {
    const sizes = size % 40 === 0 ? [size, size - 3] : [size]
    for (const contents of sizes.map((size) => Buffer.alloc(size, 'x'))) {
      const node: NarNode = {
        type: 'directory',
        entries: [
          { name: name('a'), node: { type: 'file', executable: false, contents } },
          { name: name('b'.repeat(99)), node: { type: 'symlink', target: name('t'.repeat(99)) } },
          { name: name('c'), node: { type: 'file', executable: true, contents: name('run') } },
        ],
      }
      const path = fresh()
      writeNode(Buffer.from(path), node)
      assert.ok(dump(path).equals(encodeNar(node)), `after a file of ${contents.length} bytes`)
      rmSync(path, { recursive: true })
    }
  }
})

test('a file is executable if its owner may execute it', async () => {
  for (const mode of [0o744, 0o654, 0o645, 0o555, 0o444, 0o700, 0o600]) {
    await assertAsNixDumps(withFile('text', mode))
  }
})

/** @param file the wrong one in this tree */
function assertRefused(path: string, file = path, code: ErrorCode = 'bad-store'): void {
  assert.throws(() => dump(path), netimageError(code, { file }))
}

suite('a file that cannot be in a store is refused', () => {
  test('a pipe', async () => {
    const path = fresh()
    await filterThrough('mkfifo', [path])
    // Opening the pipe would wait for a writer forever.
    assertRefused(path)
  })

  test('a socket in a directory', async () => {
    const path = fresh()
    mkdirSync(path)
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(path, 'socket'), resolve))
    try {
      assertRefused(path, join(path, 'socket'))
    } finally {
      server.close()
    }
  })

  test('65 nested directories, where 64 are allowed', () => {
    const path = fresh()
    mkdirSync(join(path, 'd/'.repeat(63)), { recursive: true })
    assert.ok(dump(path).length > 0)
    mkdirSync(join(path, 'd/'.repeat(64)))
    assertRefused(path, join(path, ...Array<string>(64).fill('d')))
  })

  test('a missing file', () => {
    const path = fresh()
    assertRefused(path, path, 'file-system')
  })
})

test('a file that becomes shorter while it is read', () => {
  const path = withFile(Buffer.alloc(1 << 20))
  assert.throws(
    () => dumpNar(path, () => writeFileSync(path, 'short')),
    netimageError('bad-store', { file: path }),
  )
})
