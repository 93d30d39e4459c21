import assert from 'node:assert/strict'
import { chmodSync, lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { crc32, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { xz } from '@napi-rs/lzma'
import fc from 'fast-check'
import { readInitrd } from '../../../src/nixos/initrd/entries.ts'
import { inPieces, pieceSizes } from '../../support/chunks.ts'
import { cpioArchive, modes, padded, type CpioFile } from '../../support/cpio.ts'
import { filterThrough } from '../../support/programs.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { describeEntries, readAll } from './collect.ts'

// Bytes that do not compress, and more bytes that do.
const noise = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * at * 2654435761) >>> 13))
const modulesFile = Buffer.concat([noise, Buffer.alloc(700_000, 'module')])

/** Makes a tree. @returns the names in the tree in the form of `find` */
function makeTree(directory: string): string[] {
  mkdirSync(join(directory, 'lib/modules'), { recursive: true })
  writeFileSync(join(directory, 'init'), '#!/bin/sh\nexec true\n')
  chmodSync(join(directory, 'init'), 0o755)
  writeFileSync(join(directory, 'lib/modules/big.ko'), modulesFile)
  writeFileSync(join(directory, 'empty'), '')
  symlinkSync('/nix/store/x/bin/sh', join(directory, 'sh'))
  return ['.', 'init', 'lib', 'lib/modules', 'lib/modules/big.ko', 'empty', 'sh']
}

suite('initrds made by real programs', () => {
  const directory = temporaryDirectory()
  const names = makeTree(directory)
  let plain: Buffer
  let checked: Buffer
  let expected: string[]

  const archive = (format: string) =>
    filterThrough('cpio', ['--quiet', '-o', '-H', format, '-D', directory], {
      input: Buffer.from(names.join('\n')),
    })

  before(async () => {
    plain = await archive('newc')
    checked = await archive('crc')
    expected = names.map((name) => {
      const stat = lstatSync(join(directory, name))
      const mode = (stat.mode & 0o7777).toString(8)
      const kinds: Record<string, string> = {
        sh: 'symlink 777 19 /nix/store/x/bin/sh ',
        init: `file ${mode} 20  #!/bin/sh\nexec true\n`,
        empty: `file ${mode} 0  `,
        'lib/modules/big.ko': `file ${mode} 1000000  ${modulesFile.toString('latin1')}`,
      }
      // A directory has no content in an archive.
      return `${name} ${kinds[name] ?? `directory ${mode} 0  `}`
    })
  })

  async function assertRead(initrd: Buffer, times = 1): Promise<void> {
    const all = Array.from({ length: times }, () => expected).flat()
    for (const sizes of [[1 << 20], [4096, 13], [100_003]]) {
      assert.deepEqual(describeEntries(await readAll(initrd, { sizes })), all)
    }
  }

  test('by cpio, with and without checksums', async () => {
    await assertRead(plain)
    await assertRead(checked)
  })

  const ways: Record<string, readonly ['gzip' | 'xz' | 'zstd', ...string[]]> = {
    gzip: ['gzip', '-c'],
    'gzip -1': ['gzip', '-1', '-c'],
    xz: ['xz', '-c'],
    'xz as the kernel requires it': ['xz', '-c', '--check=crc32', '--lzma2=dict=1MiB'],
    'xz without checks': ['xz', '-c', '--check=none'],
    'xz with SHA-256': ['xz', '-c', '--check=sha256'],
    'xz with a filter': ['xz', '-c', '--x86', '--lzma2'],
    'xz of many blocks': ['xz', '-c', '-T2', '--block-size=100000'],
    'xz of many blocks without sizes': ['xz', '-c', '-T1', '--block-size=100000'],
    zstd: ['zstd', '-c'],
    'zstd without checksums': ['zstd', '-c', '--no-check'],
    'zstd with NixOS’s settings': ['zstd', '-c', '-19', '-T0'],
    'zstd with a long window': ['zstd', '-c', '--long=27'],
  }
  for (const [name, [program, ...args]] of Object.entries(ways)) {
    test(name, async () => {
      await assertRead(await filterThrough(program, args, { input: plain }))
      await assertRead(await filterThrough(program, args, { input: checked }))
    })
  }

  test('with microcode before the compressed archive, and secrets after it', async () => {
    const microcode = cpioArchive([{ name: 'kernel/x86/microcode/GenuineIntel.bin', data: noise }])
    const secrets = cpioArchive([{ name: 'etc/key', data: 'secret' }])
    const main = await filterThrough('zstd', ['-c'], { input: plain })
    const after = await filterThrough('gzip', ['-c'], { input: secrets })
    const initrd = Buffer.concat([microcode, Buffer.alloc(512), main, after, Buffer.alloc(3)])
    const entries = describeEntries(await readAll(initrd, { sizes: [65_536] }))
    assert.equal(entries.length, expected.length + 2)
    assert.deepEqual(entries.slice(1, -1), expected)
    assert.equal(entries.at(-1), 'etc/key file 644 6  secret')
  })

  test('with the same compression twice, one directly after the other', async () => {
    for (const [program, ...args] of Object.values(ways)) {
      const once = await filterThrough(program, args, { input: plain })
      await assertRead(Buffer.concat([once, once, Buffer.alloc(9)]), 2)
    }
  })

  test('give content only if it was asked for', async () => {
    const initrd = inPieces(plain, [1000])
    const sizes: number[] = []
    for await (const entry of readInitrd(initrd, ({ size }) => size < 100)) {
      if (entry.type === 'file') sizes.push(entry.content?.length ?? -1)
    }
    assert.deepEqual(sizes, [20, -1, 0])
  })
})

suite('gzip headers', () => {
  const archive = cpioArchive([{ name: 'init', data: 'content' }])

  test('with every optional field', async () => {
    const flags = 0b11110
    const fixed = Buffer.from([0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3])
    const extra = Buffer.from([3, 0, 1, 2, 3])
    const trailer = Buffer.alloc(8)
    trailer.writeUInt32LE(crc32(archive), 0)
    trailer.writeUInt32LE(archive.length, 4)
    const optional = [extra, Buffer.from('name\0comment\0'), Buffer.from([9, 9])]
    const initrd = Buffer.concat([fixed, ...optional, deflateRawSync(archive), trailer])
    for (const sizes of [[1], [1000]]) {
      const entries = await readAll(Buffer.concat([initrd, archive]), { sizes })
      assert.deepEqual(describeEntries(entries), Array(2).fill('init file 644 7  content'))
    }
  })
})

suite('any initrd', () => {
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 40 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 ? 1 : byte))))
    .filter((bytes) => bytes.toString('latin1') !== 'TRAILER!!!')
  const data = fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes))
  const target = fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme-ascii' })
  const file: fc.Arbitrary<CpioFile> = fc.oneof(
    fc.record({ name, mode: fc.constantFrom(modes.file, modes.program), data }),
    fc.record({ name, mode: fc.constant(modes.directory) }),
    fc.record({ name, mode: fc.constant(modes.symlink), data: target }),
  )
  const compressors: Record<string, (bytes: Buffer) => Buffer> = {
    none: (bytes) => bytes,
    gzip: (bytes) => gzipSync(bytes),
    zstd: (bytes) => zstdCompressSync(bytes),
    xz: (bytes) => Buffer.from(xz.compressSync(bytes)),
  }
  const segment = fc.record({
    files: fc.array(file, { maxLength: 6 }),
    compression: fc.constantFrom(...Object.keys(compressors)),
    zeros: fc.integer({ min: 0, max: 20 }),
  })

  test('is read as it was written, for any parts and any chunks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(segment, { maxLength: 4 }), pieceSizes, async (segments, sizes) => {
        const parts = segments.map(({ files, compression, zeros }) => {
          const compress = compressors[compression]
          assert.ok(compress)
          return Buffer.concat([padded(compress(cpioArchive(files))), Buffer.alloc(zeros * 4)])
        })
        const read = await readAll(Buffer.concat(parts), { sizes })
        const plain = await readAll(cpioArchive(segments.flatMap(({ files }) => files)))
        assert.deepEqual(describeEntries(read), describeEntries(plain))
        const names = segments.flatMap(({ files }) => files.map((file) => file.name))
        assert.deepEqual(
          read.map((entry) => entry.name),
          names,
        )
      }),
      { numRuns: 60 },
    )
  })
})
