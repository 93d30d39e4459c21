// Initrds that no build would make. The kernel has errors for most of them in init/initramfs.c:
// "broken padding", "junk within compressed archive", "bad data checksum".

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { xz } from '@napi-rs/lzma'
import fc from 'fast-check'
import { NetimageError, type ErrorDetails } from '../../../src/errors.ts'
import { UnknownCompression } from '../../../src/nixos/initrd/compressed.ts'
import { readInitrd } from '../../../src/nixos/initrd/entries.ts'
import { readInitrdFacts } from '../../../src/nixos/initrd/facts.ts'
import { inPieces } from '../../support/chunks.ts'
import { cpioArchive, cpioMember, modes, trailer } from '../../support/cpio.ts'
import { assertError, netimageError } from '../../support/errors.ts'
import { filterThrough } from '../../support/programs.ts'
import { describeEntries, readAll } from './collect.ts'

const archive = cpioArchive([
  { name: 'init', mode: modes.program, data: '#!/bin/sh\n' },
  { name: 'lib', mode: modes.directory },
  { name: 'text', data: 'x'.repeat(5000) },
])
const compressed: Record<string, Buffer> = {
  gzip: gzipSync(archive),
  zstd: zstdCompressSync(archive),
  xz: Buffer.from(xz.compressSync(archive)),
}

async function assertBroken(initrd: Buffer, details: ErrorDetails): Promise<void> {
  for (const sizes of [[1 << 20], [7]]) {
    await assert.rejects(readAll(initrd, { sizes }), netimageError('bad-system', details))
  }
}

suite('an initrd that is cut off', () => {
  test('inside an archive is broken', async () => {
    // A cut between two files cannot be noticed, since the trailer may be missing.
    const ends = new Set([0])
    for (let at = 0; at < archive.length;) {
      const size = Number.parseInt(archive.toString('latin1', at + 54, at + 62), 16)
      const nameSize = Number.parseInt(archive.toString('latin1', at + 94, at + 102), 16)
      const dataEnd = at + Math.ceil((110 + nameSize) / 4) * 4 + size
      at = Math.ceil(dataEnd / 4) * 4
      for (let end = dataEnd; end <= at; end++) ends.add(end)
    }
    for (let length = 0; length < 400; length++) {
      const read = readAll(archive.subarray(0, length)).then(
        () => true,
        (error: unknown) => {
          assertError(error, 'bad-system')
          assert.match(error.details.field ?? '', /^(end|magic)$/)
          return false
        },
      )
      assert.equal(await read, ends.has(length), `after ${length} bytes`)
    }
  })

  for (const [name, bytes] of Object.entries(compressed)) {
    test(`inside ${name} is broken`, async () => {
      for (let length = 2; length < bytes.length; length++) {
        await assert.rejects(
          readAll(bytes.subarray(0, length)),
          netimageError('bad-system'),
          `after ${length} bytes`,
        )
      }
    })
  }
})

suite('an initrd with wrong values:', () => {
  test('the size of a file', async () => {
    const lie = { fileSize: 0xffffffff }
    await assertBroken(cpioMember({ name: 'init', data: 'short' }, lie), { field: 'end' })
    const read = readAll(cpioMember({ name: 'l', mode: modes.symlink, data: 'x' }, lie))
    await assert.rejects(read, netimageError('bad-system', { field: 'end' }))
  })

  test('the size of a name', async () => {
    const long = cpioMember({ name: 'init' }, { nameSize: 0xfffffff0 })
    await assertBroken(Buffer.concat([long, archive]), { field: 'end' })
  })

  test('names that are too long or empty, which the kernel and netimage skip', async () => {
    const tooLong = cpioMember({ name: 'n'.repeat(5000), data: 'abc' })
    const nameless = cpioMember({ name: '' }, { nameSize: 0 }).subarray(0, 112)
    const entries = await readAll(Buffer.concat([tooLong, nameless, archive]))
    assert.equal(entries.length, 3)
  })

  test('the checksum of a file', async () => {
    const lie = { magic: '070702', checksum: 1 }
    await assertBroken(cpioMember({ name: 'init', data: 'content' }, lie), { field: 'checksum' })
    await assert.rejects(
      async () => {
        const initrd = inPieces(cpioMember({ name: 'init', data: 'content' }, lie), [50])
        for await (const entry of readInitrd(initrd, () => false)) assert.fail(String(entry.name))
      },
      netimageError('bad-system', { field: 'checksum' }),
    )
  })

  test('a header', async () => {
    const bytes = Buffer.from(archive)
    bytes.write('zzzz', 20)
    await assertBroken(bytes, { field: 'header' })
  })

  test('the checksum or length of gzip', async () => {
    for (const at of [8, 4]) {
      const bytes = Buffer.from(gzipSync(archive))
      const byte = bytes.length - at
      bytes.writeUInt8(bytes.readUInt8(byte) ^ 1, byte)
      await assertBroken(bytes, { field: 'gzip' })
    }
  })

  test('an xz dictionary of 4 GiB, in any block', async () => {
    const args = ['-c', '-T1', '--block-size=2000']
    const whole = await filterThrough('xz', args, { input: archive })
    // Size, flags, filter, size of its properties, properties, padding, checksum.
    const header = whole.subarray(12, 24)
    assert.deepEqual([...header.subarray(2, 4)], [0x21, 0x01])
    for (const at of [12, whole.indexOf(header, 24)]) {
      const bytes = Buffer.from(whole)
      bytes.writeUInt8(40, at + 4)
      await assertBroken(bytes, { field: 'xz' })
    }
  })

  test('a zstd window of 2 GiB', async () => {
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00])
    await assertBroken(frame, { field: 'zstd' })
  })
})

suite('an initrd of another format:', () => {
  test('unknown bytes', async () => {
    await assertBroken(Buffer.from('initrd\n'), { field: 'magic' })
    await assertBroken(Buffer.concat([archive, Buffer.from('junk')]), { field: 'magic' })
  })

  test('the old cpio format', async () => {
    await assertBroken(Buffer.from('070707000001000002'), {
      field: 'magic',
      actual: '303730373037',
    })
  })

  test('compressed bytes that are no archive', async () => {
    for (const bytes of [gzipSync('text'), zstdCompressSync(gzipSync(archive))]) {
      await assertBroken(bytes, { field: 'magic' })
    }
  })

  const others = {
    bzip2: 'BZh91AY&SY',
    lzma: ']\0\0\x80\0',
    lzo: '\x89LZO\0',
    lz4: '\x02\x21\x4c\x18',
  }
  for (const [name, start] of Object.entries(others)) {
    test(`the compression ${name}, which does not count as broken`, async () => {
      const initrd = Buffer.concat([archive, Buffer.from(start, 'latin1')])
      await assert.rejects(readAll(initrd), (error) => {
        assert.ok(error instanceof UnknownCompression)
        assert.equal(error.compression, name)
        return true
      })
      const { unread } = await readInitrdFacts([initrd])
      assert.equal(unread?.compression, name)
    })
  }
})

suite('an endless initrd', () => {
  async function* forever(bytes: Buffer): AsyncGenerator<Buffer> {
    for (;;) yield bytes
  }
  const bounded = { maxBytes: 20_000_000 }

  test('of zeros', async () => {
    await assert.rejects(
      readAll(forever(Buffer.alloc(1 << 16)), bounded),
      netimageError('bad-system', { field: 'size' }),
    )
  })

  test('of files', async () => {
    const member = cpioMember({ name: 'x'.repeat(4000) })
    const facts = await readInitrdFacts(forever(Buffer.concat(Array(100).fill(member))))
    assert.match(facts.unread?.why ?? '', /names of its files/)
  })

  test('of one file', async () => {
    async function* large() {
      yield cpioMember({ name: 'large' }, { fileSize: 0xffffffff })
      yield* forever(Buffer.alloc(1 << 16))
    }
    const read = async () => {
      for await (const entry of readInitrd(large(), () => false, 20_000_000)) {
        assert.fail(String(entry.name))
      }
    }
    await assert.rejects(read, netimageError('bad-system', { field: 'size' }))
  })

  test('of compressed zeros', async () => {
    const zeros = Buffer.concat([archive, Buffer.alloc(25_000_000)])
    const bombs = [gzipSync(zeros), zstdCompressSync(zeros), Buffer.from(xz.compressSync(zeros))]
    for (const bomb of bombs) {
      assert.ok(bomb.length < 100_000)
      await assert.rejects(readAll(bomb, bounded), netimageError('bad-system', { field: 'size' }))
    }
  })
})

suite('a reader of initrds', () => {
  test('may stop early, and then closes its input', async () => {
    for (const bytes of [archive, ...Object.values(compressed)]) {
      let closed = false
      async function* input() {
        try {
          for (const piece of inPieces(bytes, [100])) yield piece
        } finally {
          closed = true
        }
      }
      for await (const entry of readInitrd(input(), () => true)) {
        assert.equal(String(entry.name), 'init')
        break
      }
      assert.ok(closed)
    }
  })

  test('throws the errors of its input', async () => {
    for (const bytes of [archive, ...Object.values(compressed)]) {
      async function* failing() {
        yield bytes.subarray(0, 60)
        throw new Error('the disk is gone')
      }
      await assert.rejects(readAll(failing()), /the disk is gone/)
      await assert.rejects(readInitrdFacts(failing()), /the disk is gone/)
    }
  })

  test('throws no other errors for any bytes', async () => {
    const seeds = [archive, ...Object.values(compressed), cpioMember(trailer)]
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(6000), fc.nat(255)), { minLength: 1, maxLength: 5 }),
        fc.nat(6000),
        async (seed, changes, cut) => {
          const bytes = Buffer.from(seed)
          for (const [at, byte] of changes) if (at < bytes.length) bytes.writeUInt8(byte, at)
          const entries = await readAll(bytes.subarray(0, cut), { maxBytes: 1 << 24 }).catch(
            (error: unknown) => {
              if (error instanceof UnknownCompression) return []
              if (error instanceof NetimageError && error.code === 'bad-system') return []
              throw error
            },
          )
          assert.ok(describeEntries(entries).length <= 4)
        },
      ),
      { numRuns: 400 },
    )
  })
})
