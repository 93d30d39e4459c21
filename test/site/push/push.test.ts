// Images of one site come to another site by `netimage site push`, through the program ssh.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, suite, test, type TestContext } from 'node:test'
import * as v from 'valibot'
import { imageIds, openSiteImage } from '../../../src/site/images/site-image.ts'
import {
  assertFailed,
  cli,
  netimage,
  netimageJson,
  parseObject,
  startNetimage,
} from '../../support/netimage.ts'
import { ordinaryUser } from '../../support/namespace.ts'
import { freshNames } from '../../support/temporary.ts'
import { assertSameLines } from '../../support/trees.ts'
import { waitUntil } from '../../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'
import { freePort } from '../../serve/support/free-port.ts'
import { addSystem, pathsOfEach, systems, writeSystems } from '../images/support/made-images.ts'
import { describeSite, logOf, programs, push, withPrograms } from './support/two-sites.ts'

suite('netimage site push', () => {
  let workspace: Workspace
  let freshName: () => string
  let from: string
  let ids: { first: string; second: string }
  let plain: string

  before(async () => {
    workspace = makeWorkspace('push')
    freshName = freshNames(workspace.directory)
    from = workspace.path('from')
    writeSystems(workspace)
    ids = {
      first: await addSystem(workspace, 'first', from),
      second: await addSystem(workspace, 'second', from),
    }
    plain = programs(workspace.path('plain'))
  })
  after(() => workspace.remove())

  test('brings the same images to another site, and sends each store path once', async () => {
    const to = freshName()
    const images = [ids.first, ids.second]
    const run = await push({ from, to, programs: plain, images, flags: ['--json'] })
    assert.equal(run.status, 0, run.stderr)
    const { images: sent, ...rest } = parseObject(run.stdout)
    assert.partialDeepStrictEqual(sent, [
      { id: ids.first, name: 'root', isNew: true, sentPaths: pathsOfEach, skippedPaths: 0 },
      { id: ids.second, isNew: true, sentPaths: 1, skippedPaths: pathsOfEach - 1 },
    ])
    assert.partialDeepStrictEqual(rest, { server: 'ssh://admin@lab2' })
    assertSameLines(await describeSite(to), await describeSite(from))
    assert.deepEqual(
      logOf(to).map(
        (row) => 'entry' in row && [row.entry.kind, row.who.kind, Object(row.entry).image],
      ),
      images.map((image) => ['added', 'person', image]),
    )
    const again = await push({ from, to, programs: plain, images: [ids.first] })
    assert.equal(again.status, 0, again.stderr)
    assert.equal(again.stdout, `${ids.first}  root  was there already\n`)
    assert.equal(logOf(to).length, 2)
  })

  test('sends what machines keep, and says so if they keep nothing', async () => {
    const to = freshName()
    const nothing = await push({ from, to, programs: plain, flags: ['--json'] })
    assertFailed(nothing, 'path-not-found')
    const state = ['--state', from]
    await netimageJson(['site', 'assign', '02:00:00:00:00:01', ids.second, ...state])
    const run = await push({ from, to, programs: plain })
    assert.equal(run.status, 0, run.stderr)
    assert.deepEqual(imageIds(to), [ids.second])
    assert.match(run.stderr, /^sent root \(second\): \d+ store paths; admin@lab2 had 0 in/m)
  })

  /** The bytes that the sender writes for the first image, and where they are kept. */
  async function recordFirst(): Promise<{ file: string; bytes: number; to: string }> {
    const [file, to] = [freshName(), freshName()]
    const recording = programs(
      freshName(),
      `while [ "$1" != -- ]; do shift; done; shift 2; tee '${file}' | sh -c "$*"`,
    )
    const run = await push({
      from,
      to,
      programs: recording,
      images: [ids.first],
      flags: ['--json'],
    })
    assert.equal(run.status, 0, run.stderr)
    const bytes = fs.statSync(file).size
    assert.equal(parseObject(run.stdout)['writtenBytes'], bytes)
    return { file, bytes, to }
  }

  /** The connection ends after so many bytes. */
  const cuttingAfter = (bytes: number) =>
    programs(
      freshName(),
      `while [ "$1" != -- ]; do shift; done; shift 2
       dd bs=1 count=${bytes} status=none | sh -c "$*"
       echo 'Connection to lab2 closed by remote host.' >&2
       exit 255`,
    )

  test('goes on after a cut, and sends only the rest', async () => {
    const { bytes, to: whole } = await recordFirst()
    const cutting = cuttingAfter(Math.floor(bytes / 2))
    const empty = freshName()
    const request = { from, to: empty, images: [ids.first], flags: ['--json'] }
    const cut = await push({ ...request, programs: cutting })
    const failure = assertFailed(cut, 'remote-failed')
    assert.match(failure.message, /: Connection to lab2 closed by remote host\.$/)
    assert.match(failure.hint ?? '', /only the rest is sent/)
    assert.deepEqual(imageIds(empty), [])
    const stored = fs.readdirSync(join(empty, 'store'))
    assert.ok(stored.length > 0 && stored.length < pathsOfEach, `${stored.length}`)
    const [kept, late] = [await copyOf(empty), await copyOf(empty)]
    assert.equal(await collected(kept), 0)
    assert.deepEqual(fs.readdirSync(join(kept, 'store')), stored)
    const before = new Date(Date.now() - 25 * 3_600_000)
    fs.utimesSync(join(late, 'images', `.coming-${ids.first}`), before, before)
    assert.equal(await collected(late), stored.length)
    const rest = await push({ ...request, programs: plain })
    assert.equal(rest.status, 0, rest.stderr)
    const { images, writtenBytes } = parseObject(rest.stdout)
    assert.partialDeepStrictEqual(images, [
      { sentPaths: pathsOfEach - stored.length, skippedPaths: stored.length },
    ])
    const [{ skippedBytes } = { skippedBytes: 0 }] = v.parse(
      v.array(v.object({ skippedBytes: v.number() })),
      images,
    )
    assert.ok(skippedBytes > 0)
    // Each frame has five bytes, and each store path has a message.
    assert.ok(Number(writtenBytes) <= bytes - skippedBytes, `${String(writtenBytes)} of ${bytes}`)
    assertSameLines(await describeSite(empty), await describeSite(whole))
  })

  test('that is cut changes nothing for machines that are served, which can boot the image after the rest', async (context) => {
    const to = freshName()
    const { boot } = await startServing(context, workspace.path('out', 'second'), to)
    const [one, other] = ['127.0.0.1', '127.0.0.2']
    const before = await boot(one)
    assert.ok(before[0]?.includes(systems.second.toplevel), before[0])
    const request = { from, to, images: [ids.first] }
    const cut = await push({ ...request, programs: cuttingAfter(6000), flags: ['--json'] })
    assertFailed(cut, 'remote-failed')
    assert.ok(fs.existsSync(join(to, 'images', `.coming-${ids.first}`)))
    assert.deepEqual(imageIds(to), [ids.second])
    assert.deepEqual(await boot(one), before)
    const rest = await push({ ...request, programs: plain })
    assert.equal(rest.status, 0, rest.stderr)
    assert.deepEqual(await boot(one), before)
    await netimageJson(['site', 'assign', other, ids.first, '--state', to])
    const [script = ''] = await boot(other)
    assert.ok(script.includes(systems.first.toplevel), script)
  })

  async function copyOf(state: string): Promise<string> {
    const copy = freshName()
    fs.cpSync(state, copy, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    return copy
  }

  /** @returns how many store paths `gc` has removed */
  async function collected(state: string): Promise<unknown> {
    const { removedStorePaths } = await netimageJson(['site', 'gc', '--state', state])
    return removedStorePaths
  }

  /** It serves until the end of the test. */
  async function startServing(context: TestContext, image: string, state: string) {
    const [http, nfs] = [await freePort(), await freePort()]
    const { child, ended } = startNetimage([
      ...['serve', image, '--dhcp', 'off', '--listen', '127.0.0.1', '--state', state],
      ...['--tftp-port', `${await freePort()}`, '--http-port', `${http}`, '--nfs-port', `${nfs}`],
      ...['--no-port-mapper', '--allow', 'any'],
    ])
    let said = ''
    child.stderr?.on('data', (text: string) => (said += text))
    await waitUntil('it serves', () => {
      assert.equal(child.exitCode, null, said)
      return /^on 127\.0\.0\.1 /m.test(said)
    })
    let isEnded = false
    async function end(): Promise<void> {
      if (isEnded) return
      isEnded = true
      child.kill('SIGTERM')
      assert.equal((await ended).status, 0, said)
    }
    context.after(end)
    /** @returns what the machine with this address gets to boot: the script and the kernel */
    async function boot(localAddress: string): Promise<string[]> {
      const load = async (path: string) => {
        const request = { host: '127.0.0.1', port: http, path, localAddress, agent: false }
        const response = await new Promise<IncomingMessage>((resolve, reject) => {
          get(request, resolve).on('error', reject)
        })
        const body = await text(response)
        assert.equal(response.statusCode, 200, body)
        return body
      }
      const script = await load('/boot.ipxe')
      const kernel = /^kernel (\S+) /m.exec(script)?.[1] ?? assert.fail(script)
      return [script, await load(`/${kernel}`)]
    }
    return { boot, end }
  }

  test('holds up nobody if it stops half-way, and goes on from there', async (context) => {
    const { file, to: whole } = await recordFirst()
    const sent = fs.readFileSync(file)
    const middle = sent.lastIndexOf('nix-archive-1')
    const to = freshName()
    // As sshd starts it.
    const receiver = spawn(process.execPath, [cli, 'site', 'receive', '--state', to])
    context.after(() => receiver.kill('SIGKILL'))
    const ended = once(receiver, 'close')
    let said = ''
    receiver.stdout.on('data', (text: Buffer) => (said += text.toString('latin1')))
    receiver.stdin.write(sent.subarray(0, middle))
    const stored = () => (fs.existsSync(join(to, 'store')) ? fs.readdirSync(join(to, 'store')) : [])
    await waitUntil('all store paths but the last have come', () => {
      assert.equal(receiver.exitCode, null, said)
      return stored().length >= pathsOfEach - 1
    })
    receiver.kill('SIGSTOP')
    const half = stored()
    assert.deepEqual(imageIds(to), [])

    const second = workspace.path('out', 'second')
    const { id } = await netimageJson(['site', 'add', second, '--state', to])
    assert.equal(id, ids.second)
    await (await startServing(context, second, to)).end()
    // The image that comes needs all others of its store paths.
    assert.equal(await collected(to), 1)
    const left = stored()
    assert.deepEqual(
      half.filter((name) => !left.includes(name)),
      [],
    )

    const other = await push({ from, to, programs: plain, images: [ids.first] })
    assert.equal(other.status, 0, other.stderr)
    assertSameLines(await describeSite(to), await describeSite(whole))
    receiver.kill('SIGCONT')
    receiver.stdin.end(sent.subarray(middle))
    assert.deepEqual(await ended, [0, null])
    assert.match(said, /"added"/)
    assertSameLines(await describeSite(to), await describeSite(whole))
    assert.deepEqual(
      [...fs.readdirSync(join(to, 'images')), ...fs.readdirSync(join(to, 'store'))].filter((name) =>
        name.startsWith('.'),
      ),
      [],
    )
    const added = logOf(to).flatMap((row) => ('entry' in row ? [row.entry.kind] : []))
    assert.deepEqual(added, ['added', 'removed', 'freed', 'added'])
  })

  /** A push of the first image with another ssh. */
  async function failsWith(ssh: string) {
    const directory = programs(freshName(), ssh)
    const to = freshName()
    const run = await push({
      ...{ from, to, programs: directory, images: [ids.first], flags: ['--json'] },
    })
    assert.deepEqual(fs.existsSync(to) ? imageIds(to) : [], [])
    return run
  }
  const drop = 'while [ "$1" != -- ]; do shift; done; shift 2'

  test('says what ssh says, and what is missing on the other server', async () => {
    const denied = await failsWith(
      'echo "admin@lab2: Permission denied (publickey)." >&2; exit 255',
    )
    const { message, hint } = assertFailed(denied, 'remote-failed')
    assert.equal(
      message,
      'ssh has no connection to ssh://admin@lab2: admin@lab2: Permission denied (publickey).',
    )
    assert.match(hint ?? '', /ssh ssh:\/\/admin@lab2 true/)
    assert.equal(denied.status, 5)
    const without = await failsWith(`${drop}; PATH=/usr/bin:/bin exec sh -c "$*"`)
    assert.match(assertFailed(without, 'program-missing').message, /netimage: not found$/)
    const older = await failsWith('echo "error: unknown command \'receive\'" >&2; exit 2')
    assert.match(
      assertFailed(older, 'remote-failed').message,
      /ended with 2: error: unknown command/,
    )
    const noisy = await failsWith(`echo 'Welcome to lab2'; ${drop}; exec sh -c "$*"`)
    assert.match(assertFailed(noisy, 'bad-message').message, /"Welcome to lab2\\n"/)
    const noSsh = await netimage(
      ['site', 'push', 'ssh://lab2', ids.first, '--state', from, '--json'],
      {
        env: { PATH: '/nonexistent' },
      },
    )
    assertFailed(noSsh, 'program-missing', { expected: 'ssh' })
    const control = await failsWith(String.raw`printf 'a\033[2Jb\n' >&2; exit 255`)
    assert.equal(control.stderr.includes('\u001b'), false)
  })

  test('passes the error of the other server on with its code', async () => {
    const taken = freshName()
    fs.writeFileSync(taken, 'a file')
    const run = await push({
      from,
      to: taken,
      programs: plain,
      images: [ids.first],
      flags: ['--json'],
    })
    const { message } = assertFailed(run, 'file-system')
    assert.match(message, /^admin@lab2 says: could not /)
    assert.equal(run.status, 1)
  })

  test('says that this site is damaged, before the other site has to', async () => {
    const state = freshName()
    execFileSync('cp', ['-a', from, state])
    const { rootImage } = await openSiteImage(state, ids.first)
    const { at } =
      rootImage.storePaths.find(({ name }) => name.endsWith('-content-1')) ?? assert.fail()
    fs.appendFileSync(join(at, 'text'), 'changed')
    const to = freshName()
    const run = await push({
      from: state,
      to,
      programs: plain,
      images: [ids.first],
      flags: ['--json'],
    })
    const { message, hint } = assertFailed(run, 'image-damaged', { file: at })
    assert.match(message, /has changed in this site/)
    assert.match(hint ?? '', /site add --repair/)
    assert.deepEqual(imageIds(to), [])
  })

  test('names the machines whose image is gone', async () => {
    const state = freshName()
    execFileSync('cp', ['-a', from, state])
    const mac = '02:00:00:00:00:01'
    await netimageJson(['site', 'assign', mac, ids.first, '--state', state])
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    fs.rmSync(join(state, 'images', ids.first), { recursive: true })
    const run = await push({ from: state, to: freshName(), programs: plain, images: [] })
    const gone = `pi1: the image ${ids.first.slice(0, 12)} is gone, and is not sent`
    assert.ok(run.stderr.includes(gone), run.stderr)
  })

  test('gives ssh the options of the person, and the shell there one word for the directory', async () => {
    const seen = freshName()
    const directory = programs(freshName(), `printf '%s\n' "$@" >'${seen}'; exit 255`)
    const state = "it's here; rm -rf x"
    await netimage(
      ['site', 'push', 'ssh://[fe80::1%eth0]:2222', '--remote-state', state, '--state', from],
      withPrograms({
        ...{ from, to: '', programs: directory },
        settings: { env: { NETIMAGE_SSHOPTS: ' -i key  -v ' } },
      }),
    )
    const command = `netimage site receive --state 'it'\\''s here; rm -rf x'`
    assert.deepEqual(fs.readFileSync(seen, 'utf8').split('\n').slice(0, -1), [
      ...['-i', 'key', '-v', '-T', '-x', '-p', '2222', '--', 'fe80::1%eth0', command],
    ])
    for (const url of [
      ...['lab2', 'ssh://', 'ssh://-oProxyCommand=x', 'ssh://-l@lab2', 'ssh://a:b@lab2'],
      ...['ssh://lab2/path', 'ssh://lab2:x', 'ssh://lab2\n', 'https://lab2', 'ssh://a b'],
    ]) {
      const run = await netimage(['site', 'push', url, '--state', from, '--json'])
      assertFailed(run, 'bad-usage', { actual: url })
    }
  })

  test('runs the ssh of root for the site of another user, and reads the site as that user', async (context) => {
    if (process.geteuid?.() !== 0) return context.skip('only root becomes another user')
    fs.chmodSync(workspace.directory, 0o755)
    const [state, to, users] = [freshName(), freshName(), freshName()]
    execFileSync('cp', ['-a', from, state])
    execFileSync('chown', ['-R', `${ordinaryUser.uid}:${ordinaryUser.gid}`, state])
    const directory = programs(
      freshName(),
      `while [ "$1" != -- ]; do shift; done; shift 2
       id -u >'${users}'
       exec sh -c "$*"`,
    )
    const run = await push({ from: state, to, programs: directory, images: [ids.first] })
    assert.equal(run.status, 0, run.stderr)
    assert.equal(fs.readFileSync(users, 'utf8').split('\n')[0], '0')
    assert.equal(fs.statSync(join(to, 'images', ids.first)).uid, 0)
  })
})
