// Common TFTP clients with our TFTP server.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { decode } from '../../src/protocols/tftp/packet.ts'
import { openLossyRelay } from '../protocols/support/lossy-relay.ts'
import { serveTftp } from '../protocols/support/tftp-server.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const tree = temporaryDirectory()
const freshName = freshNames(temporaryDirectory())

/** 65,540 blocks of 512 bytes: more than the block number can count. */
const large = randomBytes(512 * 65_539 + 100)
const files = {
  large,
  medium: large.subarray(0, 1_000_003),
  empty: Buffer.alloc(0),
  'one-byte': Buffer.from('x'),
  'one-block-less-one': large.subarray(0, 511),
  'one-block': large.subarray(0, 512),
  'two-blocks': large.subarray(0, 1024),
  'block-of-1428': large.subarray(0, 1428),
  'blocks-of-8192': large.subarray(0, 8192 * 8),
  text: Buffer.from('one\ntwo\r\nthree\r\r\n\n\rfour'),
}
type FileName = keyof typeof files
for (const [name, content] of Object.entries(files)) writeFileSync(join(tree, name), content)
const full = ['one-byte', 'one-block-less-one', 'one-block', 'two-blocks'] as const
const small = ['empty', ...full] as const

type Client = (port: number, file: FileName, into: string) => Promise<string>

const host = '127.0.0.1'

const curl: (blockSize?: number) => Client = (blockSize) => (port, file, into) => {
  const size = blockSize === undefined ? ['--tftp-no-options'] : ['--tftp-blksize', `${blockSize}`]
  writeFileSync(into, '')
  const flags = ['--silent', '--show-error', '--max-time', '900', ...size, '--output', into]
  return runProgram('curl', [...flags, `tftp://${host}:${port}/${file}`])
}

const tftpHpa: (mode: string) => Client = (mode) => (port, file, into) =>
  runProgram(findProgram('tftp'), ['-m', mode, host, `${port}`, '-c', 'get', file, into])

const busybox: (blockSize: number) => Client = (blockSize) => (port, file, into) => {
  const flags = ['tftp', '-g', '-b', `${blockSize}`, '-r', file, '-l', into]
  return runProgram(findProgram('busybox'), [...flags, host, `${port}`])
}

const atftp: (...options: string[]) => Client =
  (...options) =>
  (port, file, into) => {
    const flags = options.flatMap((option) => ['--option', option])
    return runProgram(findProgram('atftp'), [
      ...flags,
      '-g',
      '-r',
      file,
      '-l',
      into,
      host,
      `${port}`,
    ])
  }

// curl with options cannot fetch an empty file: it does not accept a size of 0.
const clients: [string, Client, readonly FileName[]][] = [
  ['curl without options', curl(), ['large', ...small]],
  ['curl, blocks of 8 bytes', curl(8), full],
  ['curl, blocks of 1428 bytes', curl(1428), ['medium', 'block-of-1428', ...full]],
  ['curl, blocks of 8192 bytes', curl(8192), ['medium', 'blocks-of-8192', ...full]],
  ['curl, blocks of 65464 bytes', curl(65464), ['medium', ...full]],
  ['tftp-hpa', tftpHpa('octet'), ['large', ...small]],
  ['busybox, blocks of 1468 bytes', busybox(1468), ['medium', ...small]],
  ['atftp', atftp(), ['medium', ...small]],
  [
    'atftp, windows of 4 blocks of 512 bytes',
    atftp('windowsize 4', 'tsize 0'),
    ['large', 'two-blocks', 'one-byte'],
  ],
  [
    'atftp, windows of 16 blocks of 1428 bytes',
    atftp('blksize 1428', 'windowsize 16'),
    ['medium', 'block-of-1428', 'blocks-of-8192', 'one-byte'],
  ],
]

for (const singlePort of [false, true]) {
  suite(`TFTP to real clients${singlePort ? ', on a single port' : ''}`, () => {
    for (const [name, client, fetched] of clients) {
      test(name, async () => {
        await using server = await serveTftp(tree, { singlePort })
        for (const file of fetched) {
          const into = freshName()
          await client(server.port, file, into)
          assert.ok(readFileSync(into).equals(files[file]), file)
          const last = server.events.at(-1)
          assert.ok(last?.kind === 'tftp' && last.step === 'end')
          assert.deepEqual([last.file.replace(/^\//, ''), last.bytes], [file, files[file].length])
        }
        assert.deepEqual(server.errors, [])
      })
    }

    test('netascii: lines of text end as on the client', async () => {
      await using server = await serveTftp(tree, { singlePort })
      const into = freshName()
      await tftpHpa('netascii')(server.port, 'text', into)
      assert.equal(readFileSync(into, 'utf8'), files.text.toString())
      // curl does not translate: each LF stays CR LF, each CR stays CR NUL.
      const raw = freshName()
      const url = `tftp://${host}:${server.port}/text;mode=netascii`
      await runProgram('curl', ['--silent', '--show-error', '--output', raw, url])
      assert.equal(readFileSync(raw, 'utf8'), 'one\r\ntwo\r\0\r\nthree\r\0\r\0\r\n\r\n\r\0four')
    })

    test('twenty clients at once', async () => {
      await using server = await serveTftp(tree, { singlePort })
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const into = freshName()
          await curl(1428)(server.port, 'blocks-of-8192', into)
          assert.ok(readFileSync(into).equals(files['blocks-of-8192']))
        }),
      )
    })

    test('tftp-hpa gets an error for a missing file and for writing', async () => {
      await using server = await serveTftp(tree, { singlePort })
      const run = (...command: string[]) =>
        runProgram(findProgram('tftp'), [host, `${server.port}`, '-c', ...command])
      assert.match(await run('get', 'none', freshName()), /code 1: there is no such file/)
      assert.match(
        await run('put', join(tree, 'text'), 'new'),
        /code 2: files can only be read here/,
      )
    })
  })
}

test('a window whose first block is lost is sent again when atftp asks, before any timeout', async () => {
  await using server = await serveTftp(tree, { singlePort: true })
  await using relay = await openLossyRelay(server.port, (packet) => {
    const read = decode(packet)
    return read?.kind === 'data' && read.block === 9
  })
  const into = freshName()
  // Both timeouts are minutes long, so only the repeated acknowledgment can cause the answer.
  await atftp('windowsize 8', 'timeout 250')(relay.port, 'blocks-of-8192', into)
  assert.ok(readFileSync(into).equals(files['blocks-of-8192']))
  assert.equal(relay.lost.length, 1)
})
