// Runs `netimage serve` on loopback and unprivileged ports, and asks it with clients of other
// projects. test/e2e shows that machines boot from it.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import * as v from 'valibot'
import { verifyImage } from '../../src/index.ts'
import { netimage, startNetimage, type Started } from '../support/netimage.ts'
import { runProgram } from '../support/real-nix.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { connectNfs, readAfter, wide } from '../protocols/support/nfs-client.ts'
import { plant } from '../site/publish/support/roots.ts'
import { findProgram } from '../support/packages.ts'
import { freePort } from './support/free-port.ts'
import { identitiesOf } from './support/identities.ts'
import { openMachines, rootOf } from './support/machines.ts'
import { buildOtherTo, buildServedImage, servedFile } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const { workspace, image } = await servedWorkspace('serve')

suite('netimage serve', () => {
  const state = workspace.path('state')
  const running: Started[] = []

  after(async () => {
    for (const { child } of running) child.kill('SIGKILL')
    await Promise.all(running.map(({ ended }) => ended))
  })

  type Ports = { tftp: number; http: number; nfs: number }

  /** Waits until the server has printed this. */
  type Says = (pattern: RegExp) => Promise<void>

  interface Served extends Started {
    ports: Ports
    says: Says
    /** What it has printed. */
    said: () => string
  }

  async function start(...flags: string[]): Promise<Served> {
    return await startWith(image, ...flags)
  }

  async function startWith(served: string, ...flags: string[]): Promise<Served> {
    const [tftp, http, nfs] = await Promise.all([freePort(), freePort(), freePort()])
    const started = startNetimage([
      ...['serve', served, '--dhcp', 'off', '--listen', '127.0.0.1', '--state', state],
      ...['--tftp-port', `${tftp}`, '--http-port', `${http}`, '--nfs-port', `${nfs}`],
      ...['--no-port-mapper', ...flags],
    ])
    running.push(started)
    let said = ''
    started.child.stderr?.on('data', (text: string) => (said += text))
    let hasEnded = false
    const ended = started.ended.then(({ stderr }) => {
      hasEnded = true
      return stderr
    })
    const says: Says = async (pattern) => {
      await waitUntil(`it says ${pattern}`, () => hasEnded || pattern.test(said))
      if (!pattern.test(said)) throw new Error(await ended)
    }
    await says(/^on 127\.0\.0\.1 /m)
    return { ...started, ports: { tftp, http, nfs }, says, said: () => said }
  }

  async function stop({ child, ended }: Started): Promise<void> {
    child.kill('SIGTERM')
    const { status } = await ended
    assert.equal(status, 0)
  }

  /** @param user who asks on the machine; default: the user of the test */
  const nfsUrl = ({ nfs }: Ports, path = '', user?: number) =>
    `nfs://127.0.0.1/srv/test${path}?version=3&nfsport=${nfs}&mountport=${nfs}` +
    (user === undefined ? '' : `&uid=${user}&gid=${user}`)

  test('gives a machine its boot files and its own root, and keeps the files that it writes', async () => {
    const server = await start('--allow', 'any', '--page', '127.0.0.1:0')
    const { ports } = server
    const curl = (url: string) => runProgram(findProgram('curl'), ['-sf', url])
    const script = await curl(`http://127.0.0.1:${ports.http}/boot.ipxe`)
    assert.match(script, /^#!ipxe/)
    assert.equal(await curl(`tftp://127.0.0.1:${ports.tftp}/boot.ipxe`), script)

    // A machine's own files replace those of the image.
    mkdirSync(join(state, 'boot/127.0.0.1'), { recursive: true })
    writeFileSync(join(state, 'boot/127.0.0.1/config.txt'), 'own')
    assert.equal(await curl(`tftp://127.0.0.1:${ports.tftp}/config.txt`), 'own')
    assert.equal(await curl(`http://127.0.0.1:${ports.http}/boot.ipxe`), script)

    const nfs = (program: string, ...args: string[]) => runProgram(findProgram(program), args)
    assert.match(await nfs('nfs-ls', nfsUrl(ports)), / nix\n/)
    const file = join(import.meta.dirname, 'serve.test.ts')
    await nfs('nfs-cp', file, nfsUrl(ports, '/kept'))
    assert.match(await nfs('nfs-ls', nfsUrl(ports)), / kept\n/)

    const machines: unknown = JSON.parse(await curl(`http://127.0.0.1:${ports.http}/api/machines`))
    const [machine] = v.parse(
      v.array(v.object({ machine: v.string(), step: v.string() })),
      machines,
    )
    assert.deepEqual(machine, { machine: '127.0.0.1', step: 'mount' })
    await server.says(/^status page /m)
    const [, page = ''] = /^status page (\S+)$/m.exec(server.said()) ?? []
    const shown: unknown = JSON.parse(await curl(`${page}api/machines/127.0.0.1`))
    assert.partialDeepStrictEqual(shown, { last: { state: 'booting' }, boot: { step: 'mount' } })
    await waitUntil('the page counts what the machine read', async () => {
      return /^netimage_nfs_requests_total{procedure="WRITE"} \d+$/m.test(
        await curl(`${page}metrics`),
      )
    })
    server.child.kill('SIGKILL')
    await server.ended

    const again = await start('--allow', 'any')
    const copy = workspace.path('copy')
    await nfs('nfs-cp', nfsUrl(again.ports, '/kept'), copy)
    await runProgram('cmp', [file, copy])
    await stop(again)
    assert.deepEqual((await verifyImage({ image })).findings, [])

    const boots = await netimage(['boots', '127.0.0.1', '--state', state])
    assert.match(boots.stdout, /^127\.0\.0\.1 .* mount .*loader [\d.]+ s, mount/m)
    assert.match(boots.stdout, /nfs mount .*path=\/srv\/test/)
  })

  test('gives a machine the host key of its site before it first boots, and keeps its machine-id', async () => {
    const kept = ['--state', workspace.path('keyed')]
    const made = await netimage(['site', 'keys', '127.0.0.1', ...kept])
    const nfs = (program: string, ...args: string[]) => runProgram(findProgram(program), args)
    const key = '/etc/ssh/ssh_host_ed25519_key'
    const id = workspace.path('machine-id')
    writeFileSync(id, randomUUID().replaceAll('-', ''))
    const boots = [[], [], ['--ephemeral']]
    for (const [place, flags] of boots.entries()) {
      const server = await start('--allow', 'any', ...kept, ...flags)
      const { ports } = server
      // A machine that asks again within a second has not started again.
      await waitUntil(`the machine starts for the ${place + 1}. time`, async () => {
        const script = `http://127.0.0.1:${ports.http}/boot.ipxe`
        await runProgram(findProgram('curl'), ['-sf', script])
        const { stdout } = await netimage(['site', 'status', '127.0.0.1', ...kept])
        return stdout.includes(`attempt ${place + 1} `)
      })
      assert.match(
        await nfs('nfs-ls', nfsUrl(ports, '/etc/ssh')),
        /^-rw------- .* ssh_host_ed25519_key$/m,
      )
      const file = workspace.path('key')
      writeFileSync(file, await nfs('nfs-cat', nfsUrl(ports, key, 0)), { mode: 0o600 })
      const line = await runProgram(findProgram('ssh-keygen'), ['-y', '-f', file])
      assert.equal(line, made.stdout)
      assert.equal(await nfs('nfs-cat', nfsUrl(ports, `${key}.pub`)), made.stdout)
      // No protocol that asks for no root has it.
      for (const base of [`http://127.0.0.1:${ports.http}`, `tftp://127.0.0.1:${ports.tftp}`]) {
        for (const path of [key, '/../site.sqlite', '/site.sqlite']) {
          const url = `${base}${path}`
          await assert.rejects(runProgram(findProgram('curl'), ['-sf', '--path-as-is', url]))
        }
      }
      const listed = await nfs('nfs-ls', nfsUrl(ports, '/etc'))
      if (flags.length > 0) assert.doesNotMatch(listed, / machine-id$/m)
      else if (/ machine-id$/m.test(listed)) {
        assert.equal(
          await nfs('nfs-cat', nfsUrl(ports, '/etc/machine-id')),
          readFileSync(id, 'utf8'),
        )
      } else await nfs('nfs-cp', id, nfsUrl(ports, '/etc/machine-id'))
      await stop(server)
      const { stdout, stderr } = await server.ended
      assert.doesNotMatch(stdout + stderr, /PRIVATE/)
    }
  })

  test('gives a machine the secrets of its site at each boot, and shows them to nobody else', async () => {
    const own = workspace.path('secretive')
    const kept = ['--state', own]
    const folder = join(own, 'secrets/127.0.0.1')
    mkdirSync(folder, { recursive: true })
    const put = (name: string, text: string, mode = 0o400) => {
      rmSync(join(folder, name), { force: true })
      writeFileSync(join(folder, name), text, { mode })
    }
    put('token', 'first token')
    put('open', 'open token', 0o444)
    const server = await start('--allow', 'any', ...kept)
    const { ports } = server
    const at = '/etc/netimage/secrets'
    const nfs = (program: string, path: string, user: number) =>
      runProgram(findProgram(program), [nfsUrl(ports, path, user)])
    assert.match(await nfs('nfs-ls', at, 0), /^-r-------- .* token$/m)
    await server.says(/127\.0\.0\.1: it boots without these secrets: open: other users may read/)
    assert.equal(await nfs('nfs-cat', `${at}/token`, 0), 'first token')
    await assert.rejects(nfs('nfs-cat', `${at}/open`, 0))
    // Another user of the machine.
    await assert.rejects(nfs('nfs-cat', `${at}/token`, 1000))
    // Another machine.
    using other = await connectNfs(ports.nfs, '127.0.0.2')
    const { handle: root } = await other.mount('/srv/test')
    await assert.rejects(other.find(root, 'etc'), /status 2$/)
    // Who asks for boot files.
    for (const base of [`http://127.0.0.1:${ports.http}`, `tftp://127.0.0.1:${ports.tftp}`]) {
      for (const path of [
        `${at}/token`,
        '/secrets/127.0.0.1/token',
        '/../secrets/127.0.0.1/token',
      ]) {
        const url = `${base}${path}`
        await assert.rejects(runProgram(findProgram('curl'), ['-sf', '--path-as-is', url]))
      }
    }
    // They change when the machine starts again, and not before.
    rmSync(join(folder, 'token'))
    put('second', 'second token')
    assert.equal(await nfs('nfs-cat', `${at}/token`, 0), 'first token')
    await waitUntil('the machine starts again', async () => {
      const url = `http://127.0.0.1:${ports.http}/boot.ipxe`
      await runProgram(findProgram('curl'), ['-sf', url])
      const { stdout } = await netimage(['site', 'status', '127.0.0.1', ...kept])
      return stdout.includes('attempt 2 ')
    })
    assert.equal(await nfs('nfs-cat', `${at}/second`, 0), 'second token')
    await assert.rejects(nfs('nfs-cat', `${at}/token`, 0))
    await stop(server)
    const { stdout, stderr } = await server.ended
    assert.doesNotMatch(stdout + stderr, /(first|second|open) token/)
    assert.deepEqual((await verifyImage({ image })).findings, [])
  })

  test('finds the note that a boot is good when it starts again, if it was killed before it read it', async () => {
    const flags = ['--allow', 'any', '--state', workspace.path('noted')]
    const server = await start(...flags)
    using machine = await connectNfs(server.ports.nfs)
    const { handle: root } = await machine.mount('/srv/test')
    const attributes = [0, 0, 0, 0, 0, 0]
    const store = await machine.find(root, 'nix')
    await machine.done('MKDIR', [store, 'var', attributes])
    await machine.done('MKDIR', [await machine.find(store, 'var'), 'netimage', attributes])
    const place = await machine.find(store, 'var', 'netimage')
    await machine.done('CREATE', [place, 'blessed', 0, attributes])
    // The server reads the note when it gets its name. Then the note was empty.
    const bootId = randomUUID()
    const toplevel = `/${servedFile.slice(0, -1).join('/')}`
    const note = JSON.stringify({ version: 1, bootId, toplevel })
    const file = await machine.find(place, 'blessed')
    await machine.done('WRITE', [file, wide(0), note.length, 2, note])
    server.child.kill('SIGKILL')
    await server.ended
    const again = await start(...flags)
    await runProgram(findProgram('nfs-ls'), [nfsUrl(again.ports)])
    await stop(again)
    const status = await netimage(['site', 'status', '127.0.0.1', '--json', ...flags.slice(2)])
    assert.match(status.stdout, new RegExp(bootId))
  })

  test('shows a machine only its own layer, whatever handles it has, and keeps the image', async () => {
    const [one, two, stranger] = ['127.0.0.2', '127.0.0.3', '127.0.0.4']
    const server = await start('--allow', one, '--allow', two)
    const { nfs } = server.ports
    using first = await connectNfs(nfs, one)
    using second = await connectNfs(nfs, two)
    using third = await connectNfs(nfs, stranger)
    const [{ handle: rootOne }, { handle: rootTwo }] = [
      await first.mount('/srv/test'),
      await second.mount('/srv/test'),
    ]
    const shared = [
      await first.find(rootOne, ...servedFile),
      await second.find(rootTwo, ...servedFile),
    ] as const
    const before = await second.attributes(shared[1])

    // The machine overwrites a file of the image, removes one, and makes one.
    await first.done('WRITE', [shared[0], wide(0), 4, 2, 'mine'])
    const folder = await first.find(rootOne, ...servedFile.slice(0, -1))
    await first.done('REMOVE', [folder, 'init'])
    await first.done('SYMLINK', [rootOne, 'new', [0, 0, 0, 0, 0, 0], 'secret'])
    const made = await first.find(rootOne, 'new')
    assert.deepEqual(await second.attributes(shared[1]), before)
    await second.find(rootTwo, ...servedFile.slice(0, -1), 'init')
    await assert.rejects(second.find(rootTwo, 'new'), /status 2$/)

    const [access, stale] = [13, 70]
    for (const handle of [rootOne, shared[0], folder, made]) {
      assert.equal((await first.ask('GETATTR', [handle])).status, 0)
      for (const [name, more] of [
        ['GETATTR', []],
        ['LOOKUP', ['new']],
        ['READ', [wide(0), 10]],
        ['READLINK', []],
        ['WRITE', [wide(0), 4, 2, 'evil']],
        ['REMOVE', ['new']],
        ['READDIR', [wide(0), wide(0), 9999]],
      ] as const) {
        assert.equal((await second.ask(name, [handle, ...more])).status, stale, name)
        assert.equal((await third.ask(name, [handle, ...more])).status, access, name)
      }
      const moved = await second.ask('RENAME', [handle, 'new', rootTwo, 'new'])
      assert.equal(moved.status, stale)
      const linked = await second.ask('LINK', [shared[1], handle, 'evil'])
      assert.ok(linked.status !== 0)
    }
    assert.equal((await third.mount('/srv/test')).status, access)
    await stop(server)
    assert.deepEqual((await verifyImage({ image })).findings, [])
  })

  test('gives a machine no forbidden files if the machine names another one in its request', async () => {
    const [one, stranger] = ['127.0.0.2', '127.0.0.3']
    mkdirSync(join(state, 'boot', one), { recursive: true })
    writeFileSync(join(state, 'boot', one, 'config.txt'), 'own')
    const server = await start('--allow', one)
    const { http, tftp } = server.ports
    const curl = (from: string, url: string) =>
      runProgram(findProgram('curl'), ['-sf', '--interface', from, url])
    for (const url of [`http://127.0.0.1:${http}`, `tftp://127.0.0.1:${tftp}`]) {
      assert.equal(await curl(one, `${url}/config.txt`), 'own')
      assert.equal(await curl(one, `${url}/${one}/config.txt`), 'own')
      for (const path of ['config.txt', `${one}/config.txt`, 'boot.ipxe', `${one}/boot.ipxe`]) {
        await assert.rejects(curl(stranger, `${url}/${path}`), path)
      }
    }
    await stop(server)
  })

  test('does not answer a machine that is not allowed, and tells how to allow it', async () => {
    const server = await start()
    const { ports } = server
    await server.says(/no machine may boot yet: allow one with --allow MAC/)
    const url = `http://127.0.0.1:${ports.http}/boot.ipxe`
    await assert.rejects(runProgram(findProgram('curl'), ['-sf', url]))
    await assert.rejects(runProgram(findProgram('nfs-ls'), [nfsUrl(ports)]))
    await server.says(/^refused 127\.0\.0\.1, .*--allow 127\.0\.0\.1 lets it boot$/m)
    await stop(server)
    const { stdout } = await server.ended
    assert.match(
      stdout,
      /"step":"refuse",.*"reason":"the machine is not among the machines that are served"/,
    )
    assert.doesNotMatch(stdout, /missing/)
  })

  test('with --ephemeral, resets a layer at the first boot that it sees, and not before', async () => {
    const nfs = (program: string, ...args: string[]) => runProgram(findProgram(program), args)
    const flags = ['--allow', 'any', '--ephemeral', '--state', workspace.path('ephemeral')]
    const first = await start(...flags)
    await nfs('nfs-cp', join(import.meta.dirname, 'serve.test.ts'), nfsUrl(first.ports, '/kept'))
    await stop(first)

    // As a machine does that runs while the server restarts.
    const second = await start(...flags)
    assert.match(await nfs('nfs-ls', nfsUrl(second.ports)), / kept\n/)
    await stop(second)

    const third = await start(...flags)
    const url = `http://127.0.0.1:${third.ports.http}/boot.ipxe`
    await runProgram(findProgram('curl'), ['-sf', url])
    assert.doesNotMatch(await nfs('nfs-ls', nfsUrl(third.ports)), / kept\n/)
    await stop(third)
  })

  test('goes on to serve machines if its output is not read any more', async () => {
    const server = await start('--allow', 'any')
    server.child.stdout?.destroy()
    const url = `http://127.0.0.1:${server.ports.http}/boot.ipxe`
    for (let count = 0; count < 5; count++) {
      await runProgram(findProgram('curl'), ['-sf', '--retry', '0', url])
    }
    await stop(server)
  })

  test('takes the address of a machine in any usual notation', async () => {
    const server = await start('--allow', 'DC-A6-32-01-02-03')
    await server.says(/^on 127/m)
    await stop(server)
    const boots = await netimage(['boots', 'DC-A6-32-01-02-03', '--state', state])
    assert.match(boots.stdout, /^no boots of dc:a6:32:01:02:03 yet$/m)
  })

  test('lets a machine keep its root if another build is served, until the machine boots again', async () => {
    const other = workspace.path('other-build')
    cpSync(image, other, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    // Another manifest: another build.
    appendFileSync(join(other, 'nix-support/net-image.json'), '\n')
    const kept = ['--allow', 'any', '--state', workspace.path('rebuilt')]
    const status = () => netimage(['site', 'status', '127.0.0.1', ...kept.slice(2)])
    const first = await startWith(image, ...kept)
    await runProgram(findProgram('curl'), ['-sf', `http://127.0.0.1:${first.ports.http}/boot.ipxe`])
    await stop(first)
    const second = await startWith(other, ...kept)
    await runProgram(findProgram('nfs-ls'), [nfsUrl(second.ports)])
    const running = (await status()).stdout
    // A machine that asks again within a second has not started again.
    await waitUntil('the machine starts again', async () => {
      const url = `http://127.0.0.1:${second.ports.http}/boot.ipxe`
      await runProgram(findProgram('curl'), ['-sf', url])
      return (await status()).stdout.includes('attempt 2')
    })
    await stop(second)
    assert.match(running, /attempt 1 of generation 1 .*mount$/m)
    assert.doesNotMatch(running, /attempt 2/)
    assert.match((await status()).stdout, /attempt 2 of generation 2 /)
  })

  test('makes a machine of an address that asks for a boot file, and not of one that only looks', async () => {
    const kept = ['--state', workspace.path('looked-at')]
    const server = await start('--allow', 'any', ...kept)
    const url = `http://127.0.0.1:${server.ports.http}`
    const curl = (...args: string[]) => runProgram(findProgram('curl'), ['-s', ...args])
    const known = async () => (await netimage(['site', 'status', ...kept])).stdout
    for (const path of ['', 'favicon.ico', 'admin/login.php']) await curl(`${url}/${path}`)
    assert.equal(await known(), 'no machines yet\n')
    // As UEFI does before it fetches the file.
    await curl('--head', `${url}/boot.ipxe`)
    await waitUntil('it is a machine', async () => (await known()).includes('127.0.0.1'))
    await stop(server)
  })

  test('tells of a profile that changed shortly before the server was killed', async () => {
    const kept = workspace.path('profile')
    const own = '/nix/store/00000000000000000000000000000000-nixos-system-own'
    {
      // Nothing of this server reads what the machine writes.
      await using opened = await openMachines(kept, [image], identitiesOf())
      const { fileSystem } = await rootOf(opened, '127.0.0.1')
      plant(fileSystem, '/nix/var/nix/profiles/system', { link: own })
      await fileSystem.stable()
    }
    const status = async () =>
      (await netimage(['site', 'status', '--state', kept, '127.0.0.1'])).stdout
    assert.doesNotMatch(await status(), /profile/)
    const server = await start('--allow', 'any', '--state', kept)
    await runProgram(findProgram('nfs-ls'), [nfsUrl(server.ports)])
    await stop(server)
    assert.ok((await status()).includes(`its profile is ${own}, which it has not published`))
  })

  test('names the right path if a machine mounts another one', async () => {
    const server = await start('--allow', 'any')
    const wrong = nfsUrl(server.ports).replace('/srv/test', '/srv/other')
    await assert.rejects(runProgram(findProgram('nfs-ls'), [wrong]))
    await stop(server)
    const { stdout, stderr } = await server.ended
    assert.match(stdout, /"path":"\/srv\/other","reason":"the root of the machine is \/srv\/test"/)
    assert.doesNotMatch(stderr, /--allow/)
  })

  test('gives an error that names the port if another program has it', async () => {
    const server = await start('--allow', 'any')
    const { tftp, http, nfs } = server.ports
    const second = await netimage([
      ...[
        'serve',
        image,
        '--dhcp',
        'off',
        '--listen',
        '127.0.0.1',
        '--state',
        workspace.path('s2'),
      ],
      ...['--tftp-port', `${tftp}`, '--http-port', `${http}`, '--nfs-port', `${nfs}`],
      '--no-port-mapper',
    ])
    assert.equal(second.status, 5)
    assert.match(second.stderr, new RegExp(`port ${nfs}: .*\\[cannot-listen\\]`))
    await stop(server)
  })

  test('refuses a state directory that another server uses, and changes nothing in it', async () => {
    const server = await start('--allow', 'any')
    const other = workspace.path('second-image')
    await buildOtherTo(workspace, other, '--nfs-root', '127.0.0.1:/srv/other,v3')
    // The first server writes, too, from time to time. All its processes are in one group.
    const group = -(server.child.pid ?? assert.fail())
    process.kill(group, 'SIGSTOP')
    const before = contentsOf(state)
    await assert.rejects(startWith(other), (error: Error) => {
      return error.message.startsWith(
        `error: another running server uses the state in ${state} [in-use]`,
      )
    })
    assert.deepEqual(contentsOf(state), before)
    process.kill(group, 'SIGCONT')
    await stop(server)
    await stop(await start('--allow', 'any'))
  })

  test('refuses an image whose root needs NFS version 4, and tells what to do', async (context) => {
    const other = makeWorkspace('serve-version-4')
    context.after(() => other.remove())
    const built = await buildServedImage(other, '127.0.0.1:/srv/test,v4.2')
    const run = await netimage(['serve', built, '--state', other.path('state')])
    assert.equal(run.status, 2, run.stderr)
    assert.match(
      run.stderr,
      /with NFS version 4\.2, but `netimage serve` has only version 3 \[bad-option\]/,
    )
    assert.match(run.stderr, /servers\.md/)
  })

  test('with --layer-size, a machine has a root of that size, and can write no more', async () => {
    const kept = workspace.path('limited')
    const server = await start('--allow', 'any', '--layer-size', '16M', '--state', kept)
    using machine = await connectNfs(server.ports.nfs)
    const { handle: root } = await machine.mount('/srv/test')
    const reader = await machine.done('FSSTAT', [root])
    readAfter(reader)
    assert.equal(reader.uint64(), 16 * 2 ** 20)
    const large = workspace.path('large')
    writeFileSync(large, Buffer.alloc(17 * 2 ** 20, 'large'))
    const copy = [large, nfsUrl(server.ports, '/large')]
    await assert.rejects(runProgram(findProgram('nfs-cp'), copy))
    await machine.done('REMOVE', [root, 'large'])
    await runProgram(findProgram('nfs-cp'), [
      join(image, 'nix-support/net-image.json'),
      nfsUrl(server.ports, '/small'),
    ])
    await stop(server)
    assert.match(
      (await server.ended).stderr,
      /WRITE for 127\.0\.0\.1 failed: .* its limit: 16777216/,
    )
  })

  const wrong = {
    'a directory that is not an image': [3, /\[not-an-image\]/, ['/', '--listen', '127.0.0.1']],
    'an address that this machine does not have': [
      5,
      /\[cannot-listen\]/,
      ['IMAGE', '--listen', '203.0.113.7'],
    ],
    'a full server without a range': [
      2,
      /--range/,
      ['IMAGE', '--listen', '127.0.0.1', '--dhcp', 'full'],
    ],
    'a router for a proxy, which gives no addresses': [
      2,
      /--router .*--dhcp proxy/,
      ['IMAGE', '--listen', '127.0.0.1', '--router', '127.0.0.1'],
    ],
    'a reservation without an address': [2, /MAC=ADDRESS/, ['IMAGE', '--reserve', '10.0.0.7']],
    'a name server that is not an address': [2, /IPv4 address/, ['IMAGE', '--dns', '10.0.0.256']],
    'a domain that is not valid': [2, /domain name/, ['IMAGE', '--domain', 'home..arpa']],
    'a size without a unit': [2, /as in 20G/, ['IMAGE', '--layer-size', '20']],
    'a size that has no room for a layer': [2, /at least 16M/, ['IMAGE', '--layer-size', '1M']],
    'a place for the page without a port': [2, /ADDRESS:PORT/, ['IMAGE', '--page', '127.0.0.1']],
    'a number of processes that is none': [2, /from 0 to 64/, ['IMAGE', '--workers', 'many']],
    'a machine that the site does not know': [
      3,
      /\[unknown-machine\]/,
      ['IMAGE', '--allow', 'everybody'],
    ],
  } as const
  for (const [what, [status, message, args]] of Object.entries(wrong)) {
    test(`${what} is refused`, async () => {
      const words = args.map((word) => (word === 'IMAGE' ? image : word))
      const run = await netimage(['serve', ...words, '--state', workspace.path('wrong')])
      assert.equal(run.status, status, run.stderr)
      assert.match(run.stderr, message)
      assert.doesNotMatch(run.stderr, /\n {4}at /)
    })
  }
})

/** The files of a directory. All who read a database write to its `-shm` file. */
function contentsOf(directory: string): Record<string, string> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && !file.name.endsWith('-shm'))
    .map((file) => join(file.parentPath, file.name))
  return Object.fromEntries(files.map((file) => [file, readFileSync(file, 'latin1')]))
}
