// Images come to another site through a real sshd, which runs on this computer.

import assert from 'node:assert/strict'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { createInterface } from 'node:readline'
import { userInfo } from 'node:os'
import { after, before, suite, test } from 'node:test'
import { imageIds } from '../../src/site/images/site-image.ts'
import { freePort } from '../serve/support/free-port.ts'
import { addSystem, writeSystems } from '../site/images/support/made-images.ts'
import { describeSite, logOf, writeProgram } from '../site/push/support/two-sites.ts'
import { assertFailed, cli, netimage } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { assertSameLines } from '../support/trees.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

suite('netimage site push through sshd', () => {
  let workspace: Workspace
  let sshd: ChildProcess
  let from: string
  let id: string
  let program: string
  let url: string
  const { username } = userInfo()

  const makeKey = (name: string) => {
    const file = workspace.path(name)
    execFileSync(findProgram('ssh-keygen'), ['-q', '-t', 'ed25519', '-N', '', '-f', file])
    return { file, publicKey: fs.readFileSync(`${file}.pub`, 'utf8').trim() }
  }

  before(async () => {
    workspace = makeWorkspace('push-ssh')
    from = workspace.path('from')
    writeSystems(workspace)
    id = await addSystem(workspace, 'first', from)
    program = writeProgram(
      workspace.path('bin'),
      'netimage',
      `exec '${process.execPath}' '${cli}' "$@"`,
    )
    const [host, free, bound] = [makeKey('host'), makeKey('free'), makeKey('bound')]
    const only = `restrict,command="${program} site receive --state ${workspace.path('bound-site')}"`
    fs.writeFileSync(
      workspace.path('authorized'),
      `${free.publicKey}\n${only} ${bound.publicKey}\n`,
    )
    const port = await freePort()
    url = `ssh://${username}@127.0.0.1:${port}`
    fs.writeFileSync(workspace.path('known'), `[127.0.0.1]:${port} ${host.publicKey}\n`)
    const settings = [
      ...[`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${host.file}`, 'PidFile none'],
      ...[`AuthorizedKeysFile ${workspace.path('authorized')}`, 'StrictModes no', 'UsePAM no'],
      ...['PasswordAuthentication no', 'PermitRootLogin prohibit-password'],
    ]
    fs.writeFileSync(workspace.path('sshd_config'), `${settings.join('\n')}\n`)
    // The package makes this directory only when its service starts.
    if (process.geteuid?.() === 0) fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
    sshd = spawn(findProgram('sshd'), ['-D', '-e', '-f', workspace.path('sshd_config')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const lines = createInterface({ input: sshd.stderr ?? assert.fail() })
    const said: string[] = []
    for await (const line of lines) {
      said.push(line)
      if (line.startsWith('Server listening')) break
    }
    assert.match(said.at(-1) ?? '', /^Server listening/, said.join('\n'))
    sshd.stderr?.resume()
  })
  after(async () => {
    const ended = once(sshd, 'close')
    sshd.kill()
    await ended
    workspace.remove()
  })

  const pushWith = (key: string, ...flags: string[]) =>
    netimage(['site', 'push', url, id, '--state', from, ...flags], {
      cwd: workspace.directory,
      env: {
        NETIMAGE_SSHOPTS: [
          ...['-F', 'none', '-i', workspace.path(key), '-o', 'IdentitiesOnly=yes'],
          ...['-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${workspace.path('known')}`],
        ].join(' '),
      },
    })

  test('brings an image to the site there, whose log says who brought it', async () => {
    const to = workspace.path("site of 'lab'")
    const run = await pushWith('free', '--remote-program', program, '--remote-state', to)
    assert.equal(run.status, 0, run.stderr)
    assertSameLines(await describeSite(to), await describeSite(from))
    const [row] = logOf(to)
    assert.ok(row && 'entry' in row)
    assert.partialDeepStrictEqual(row, {
      entry: { kind: 'added', image: id },
      who: { kind: 'person', name: username },
    })
  })

  test('can do only this with a key that has its command in authorized_keys', async () => {
    const elsewhere = workspace.path('elsewhere')
    const run = await pushWith('bound', '--remote-program', 'touch x;', '--remote-state', elsewhere)
    assert.equal(run.status, 0, run.stderr)
    assert.equal(fs.existsSync(elsewhere), false)
    assert.deepEqual(imageIds(workspace.path('bound-site')), [id])
  })

  test('shows the words of ssh if there is no connection', async () => {
    const key = makeKey('unknown')
    assert.ok(fs.existsSync(key.file))
    const denied = assertFailed(await pushWith('unknown', '--json'), 'remote-failed')
    assert.match(denied.message, /: Permission denied \(publickey/)
    const without = await pushWith('free', '--remote-program', '/nowhere/netimage', '--json')
    assert.match(assertFailed(without, 'program-missing').message, /\/nowhere\/netimage/)
  })
})
