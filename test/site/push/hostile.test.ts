// A side of a push that lies, breaks off or says nothing changes nothing on the other side.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Transform } from 'node:stream'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { manifestName } from '../../../src/image/layout.ts'
import { createByteReader } from '../../../src/nix/byte-reader.ts'
import { imageIds } from '../../../src/site/images/site-image.ts'
import { encodeFrame, readFrame } from '../../../src/site/push/frames.ts'
import { netimageError } from '../../support/errors.ts'
import { parseObject } from '../../support/netimage.ts'
import { sha256 } from '../../support/synthetic.ts'
import { freshNames } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'
import { addSystem, writeSystems } from '../images/support/made-images.ts'
import { pushBetween, receive, send } from './support/in-process.ts'
import { describeSite } from './support/two-sites.ts'

const message = (value: object) =>
  encodeFrame({ kind: 'message', body: Buffer.from(JSON.stringify(value)) })
const data = (body: Buffer | string) => encodeFrame({ kind: 'data', body: Buffer.from(body) })
const hello = message({ kind: 'hello', push: 1, netimage: '0' })

suite('a push with a hostile side', () => {
  let workspace: Workspace
  let freshName: () => string
  let from: string
  let first: string
  let second: string
  /** All bytes that an honest sender sends for the first image. */
  let honest: Buffer
  /** The site that these bytes make. */
  let whole: string[]

  before(async () => {
    workspace = makeWorkspace('push-hostile')
    freshName = freshNames(workspace.directory)
    from = workspace.path('from')
    writeSystems(workspace)
    first = await addSystem(workspace, 'first', from)
    second = await addSystem(workspace, 'second', from)
    const state = freshName()
    honest = await bytesToPush(state)
    whole = await describeSite(state)
  })
  after(() => workspace.remove())

  /** Pushes the first image. @returns all bytes that an honest sender sends */
  async function bytesToPush(to: string): Promise<Buffer> {
    const pieces: Buffer[] = []
    const tap = new Transform({
      transform(piece: Buffer, _, done) {
        pieces.push(piece)
        done(null, piece)
      },
    })
    const { failure } = await pushBetween(from, [first], to, (sent) => sent.pipe(tap))
    assert.equal(failure, undefined)
    return Buffer.concat(pieces)
  }

  /** A site with the second image. */
  async function siteWithSecond(): Promise<string> {
    const state = freshName()
    const { failure } = await pushBetween(from, [second], state)
    assert.equal(failure, undefined)
    return state
  }

  /** What the receiver makes of these bytes. */
  async function received(state: string, bytes: Buffer) {
    const [input, output] = [new PassThrough(), new PassThrough()]
    output.resume()
    input.end(bytes)
    return await receive(state, input, output)
  }

  const manifestOf = (id: string) => fs.readFileSync(join(from, 'images', id, manifestName))

  /** Announces an image with such a manifest. */
  function announce(manifest: Buffer, id = sha256(manifest).toString('hex')): Buffer {
    const image = { kind: 'image', id, manifestBytes: manifest.length }
    return Buffer.concat([hello, message(image), data(manifest)])
  }

  function changedManifest(change: (manifest: Record<string, unknown>) => object): Buffer {
    return Buffer.from(JSON.stringify(change(parseObject(manifestOf(first).toString()))))
  }

  interface Damage {
    at: number
    /** These bits of the byte at `at` are changed. Null: the bytes end there. */
    flip: number | null
  }

  function damageTo(bytes: Buffer, from = 0): fc.Arbitrary<Damage> {
    return fc.record({
      at: fc.integer({ min: from, max: bytes.length - 1 }),
      flip: fc.option(fc.integer({ min: 1, max: 255 })),
    })
  }

  function damaged(bytes: Buffer, { at, flip }: Damage): Buffer {
    if (flip === null) return bytes.subarray(0, at)
    const copy = Buffer.from(bytes)
    copy[at] = (copy[at] ?? 0) ^ flip
    return copy
  }

  /** @param withFirst the site with the first image. A change may have no meaning, such as of the version. */
  async function assertRefused(
    state: string,
    bytes: Buffer,
    before: string[],
    withFirst: string[],
  ): Promise<void> {
    const failure = await received(state, bytes)
    const hasFirst = imageIds(state).includes(first)
    assert.ok(hasFirst || failure)
    assertSameLines(await describeSite(state), hasFirst ? withFirst : before)
    // What came of the image is kept for the next push.
    const mark = `images/.coming-${first}`
    const leftovers = fs.globSync('{images,store}/.*', { cwd: state })
    assert.deepEqual(
      leftovers.filter((name) => hasFirst || name !== mark),
      [],
    )
  }

  test('never gets an image that is cut off or changed, wherever that is', async () => {
    await fc.assert(
      fc.asyncProperty(damageTo(honest), (damage) =>
        assertRefused(freshName(), damaged(honest, damage), [], whole),
      ),
      { numRuns: 60 },
    )
  })

  test('keeps the image that it has if store paths of another are cut off or changed', async () => {
    const prepared = await siteWithSecond()
    const copyOf = (state: string) => {
      const copy = freshName()
      execFileSync('cp', ['-a', state, copy])
      return copy
    }
    const before = await describeSite(prepared)
    const both = copyOf(prepared)
    const missing = await bytesToPush(both)
    const withFirst = await describeSite(both)
    // A sender may also send the store paths that are there already.
    for (const bytes of [missing, honest]) {
      const damage = damageTo(bytes, bytes.indexOf('nix-archive-1'))
      await fc.assert(
        fc.asyncProperty(damage, (each) =>
          assertRefused(copyOf(prepared), damaged(bytes, each), before, withFirst),
        ),
        { numRuns: 20 },
      )
    }
  })

  test('refuses manifests that lead out of their trees, and writes nothing', async () => {
    const file = { type: 'file', mode: '0644', size: 1, sha256: sha256('x').toString('hex') }
    const bad = [
      [{ ...file, path: '../../out' }],
      [{ ...file, path: '/out' }],
      [{ ...file, path: 'no/parent' }],
      [
        { type: 'symlink', path: 'a', target: '/' },
        { ...file, path: 'a/out' },
      ],
      [{ type: 'directory', path: '..', mode: '0755' }],
      [
        { ...file, path: 'a' },
        { ...file, path: 'a' },
      ],
      [
        { ...file, path: String.raw`\x2e\x2e` },
        { ...file, path: String.raw`\x2e\x2e/out` },
      ],
      [{ ...file, path: 'nul\u0000' }],
    ]
    const state = await siteWithSecond()
    const before = describeTree(workspace.directory, { times: false }).filter(
      (line) => !line.includes('site.sqlite'),
    )
    for (const files of bad) {
      for (const part of ['root', 'boot']) {
        const manifest = changedManifest((honest) => ({
          ...honest,
          [part]: { ...Object(honest[part]), files },
        }))
        const failure = await received(state, announce(manifest))
        assert.equal(failure?.code, 'image-damaged', JSON.stringify(files))
      }
    }
    assertSameLines(
      describeTree(workspace.directory, { times: false }).filter(
        (line) => !line.includes('site.sqlite'),
      ),
      before,
    )
  })

  test('refuses what does not belong to the protocol', async () => {
    const manifest = manifestOf(first)
    const cases: [string, Buffer, string, RegExp][] = [
      ['no hello', message({ kind: 'end' }), 'bad-message', /end came in place of hello/],
      ['no frame', Buffer.from('SSH-2.0-OpenSSH'), 'bad-message', /no frame: "SSH-2\.0-OpenSSH"/],
      ['no JSON', encodeFrame({ kind: 'message', body: Buffer.from('{') }), 'bad-message', /JSON/],
      ['an unknown message', message({ kind: 'assign' }), 'bad-message', /cannot be understood/],
      [
        'another version',
        message({ kind: 'hello', push: 2, netimage: '9' }),
        'remote-failed',
        /has version 2 \(netimage 9\) of push, and this netimage has version 1/,
      ],
      ['another hash', announce(manifest, 'f'.repeat(64)), 'hash-mismatch', /another hash/],
      ['no manifest', announce(Buffer.from('{}')), 'image-damaged', /manifest/],
      [
        'a manifest without an end',
        Buffer.concat([hello, message({ kind: 'image', id: first, manifestBytes: 2 ** 40 })]),
        'bad-message',
        /cannot be understood/,
      ],
      [
        'a longer manifest',
        Buffer.concat([hello, message({ kind: 'image', id: first, manifestBytes: 1 }), data('{}')]),
        'bad-message',
        /longer than announced/,
      ],
      [
        'an archive',
        announce(
          changedManifest((honest) => ({
            ...honest,
            root: { ...Object(honest['root']), format: 'tar' },
          })),
        ),
        'bad-option',
        /is an archive/,
      ],
      [
        'another store path',
        Buffer.concat([announce(manifest), message({ kind: 'path', narHash: 'sha256:x' })]),
        'bad-message',
        /another store path/,
      ],
      [
        'an empty piece',
        Buffer.concat([announce(manifest).subarray(0, -5 - manifest.length), data('')]),
        'bad-message',
        /empty/,
      ],
    ]
    for (const [name, bytes, code, text] of cases) {
      const state = freshName()
      const failure = await received(state, bytes)
      assert.equal(failure?.code, code, `${name}: ${failure?.message}`)
      assert.match(failure?.message ?? '', text, name)
      assert.deepEqual(imageIds(state), [], name)
    }
  })

  test('tells the sender which store path arrived otherwise, and keeps those that are whole', async () => {
    const state = freshName()
    // The last store path of the stream.
    const at = honest.lastIndexOf('nix-archive-1') + 200
    let seen = 0
    const flip = new Transform({
      transform(piece: Buffer, _, done) {
        const copy = Buffer.from(piece)
        if (at >= seen && at < seen + piece.length) copy[at - seen] = (copy[at - seen] ?? 0) ^ 1
        seen += piece.length
        done(null, copy)
      },
    })
    const { failure, sent } = await pushBetween(from, [first], state, (stream) => stream.pipe(flip))
    assert.ok(['hash-mismatch', 'bad-nar'].includes(failure?.code ?? ''), failure?.message)
    assert.match(failure?.message ?? '', /^\/nix\/store\/.* did not arrive as the manifest says/)
    assert.ok(sent.status === 'rejected')
    assert.match(String(sent.reason), /lab2 says: \/nix\/store\//)
    assert.ok(fs.readdirSync(join(state, 'store')).length > 0)
  })

  test('refuses a file outside the store that is not as the manifest says', async () => {
    const boot = fs.readFileSync(join(from, 'images', first, 'net-image/boot/boot.ipxe'))
    const ofRoot = fs.readFileSync(join(from, 'images', first, 'net-image/root/etc/name'))
    for (const contents of [boot, ofRoot]) {
      const frame = data(contents)
      const begin = honest.lastIndexOf(frame)
      assert.ok(begin > 0)
      const last = begin + frame.length - 1
      const state = freshName()
      const failure = await received(state, damaged(honest, { at: last, flip: 1 }))
      assert.equal(failure?.code, 'image-damaged', failure?.message)
      assert.match(failure?.message ?? '', /is not as the manifest says: its sha256 is/)
      assert.deepEqual(imageIds(state), [])
    }
  })

  test('does not wait for a silent sender for ever', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()]
    input.write(hello)
    const failure = await receive(freshName(), input, output.resume(), 1)
    assert.equal(failure?.code, 'remote-failed')
    assert.match(failure?.message ?? '', /has sent nothing for 0\.001 seconds/)
  })

  /** What the sender makes of a receiver that says this, and what the receiver gets after its answer. */
  async function sentTo(answers: readonly object[]) {
    const [out, back] = [new PassThrough(), new PassThrough()]
    const got: Buffer[] = []
    out.on('data', (piece: Buffer) => got.push(piece))
    for (const answer of answers) back.write(message(answer))
    const [result] = await Promise.allSettled([send(from, [first], back, out)])
    return { result, got: Buffer.concat(got) }
  }

  const greeting = { kind: 'hello', push: 1, netimage: '0' }

  test('sends a hostile receiver nothing but the store paths of the image, each once', async () => {
    const known = createByteReader([honest], { left: Infinity }, (why) => new Error(why))
    let hash = ''
    for (let frame = await readFrame(known); frame; frame = await readFrame(known)) {
      const said = frame.kind === 'message' ? parseObject(frame.body.toString()) : {}
      if (said['kind'] === 'path') hash = String(said['narHash'])
    }
    for (const paths of [['sha256:x'], ['../../../etc/shadow'], [hash, hash]]) {
      const want = { kind: 'want', isNew: true, paths }
      const { result, got } = await sentTo([greeting, want])
      assert.ok(result.status === 'rejected')
      assert.ok(netimageError('bad-message')(result.reason))
      assert.equal(got.includes('nix-archive-1'), false)
    }
  })

  test('shows what the receiver says, and ends at once', async () => {
    const want = { kind: 'want', isNew: true, paths: [] }
    const failed = { kind: 'failed', code: 'disk-full', message: 'no room', hint: 'Make room.' }
    const { result } = await sentTo([greeting, want, failed])
    assert.ok(result.status === 'rejected')
    assert.ok(netimageError('disk-full', /^lab2 says: no room$/)(result.reason))
    // It reads nothing any more.
    const [broken, back] = [new PassThrough().destroy(), new PassThrough()]
    for (const answer of [greeting, failed]) back.write(message(answer))
    await assert.rejects(send(from, [first], back, broken), netimageError('disk-full'))
    const unknown = await sentTo([greeting, { ...failed, code: 'toString' }])
    assert.ok(unknown.result.status === 'rejected')
    assert.ok(netimageError('remote-failed')(unknown.result.reason))
    const early = await sentTo([greeting, { kind: 'added', isNew: true }])
    assert.ok(early.result.status === 'rejected')
    assert.ok(netimageError('bad-message')(early.result.reason))
  })
})
