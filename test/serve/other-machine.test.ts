// One machine asks for what belongs to another machine of the same server: by NFS, HTTP and TFTP. Both may
// boot, and each is served by a process of its own.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { connectNfs, wanted, wide, type NfsClient } from '../protocols/support/nfs-client.ts'
import { netimage } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { addressIn, startSharded } from './support/sharded-server.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const { workspace, image } = await servedWorkspace('other-machine')
const state = workspace.path('state')
const [owner, other] = [addressIn(0), addressIn(1)]
const root = '/srv/test'
const secret = ['etc', 'netimage', 'secrets', 'token']
const hostKey = ['etc', 'ssh', 'ssh_host_ed25519_key']
/** NFS3ERR_STALE */
const stale = 70

suite('a machine that asks for what belongs to another one', () => {
  let server: Awaited<ReturnType<typeof startSharded>>
  let own: NfsClient
  let ownRoot: Buffer

  before(async () => {
    for (const [folder, name] of [
      ['secrets', 'token'],
      ['boot', 'config.txt'],
    ] as const) {
      mkdirSync(join(state, folder, owner), { recursive: true })
      writeFileSync(join(state, folder, owner, name), `the ${name}`, { mode: 0o400 })
    }
    const made = await netimage(['site', 'keys', owner, '--state', state])
    assert.equal(made.status, 0, made.stderr)
    server = await startSharded({ image, state })
    own = await connectNfs(server.nfs, owner)
    ownRoot = (await own.mount(root)).handle
    await own.done('CREATE', [ownRoot, 'written', 0, wanted({ mode: 0o644 })])
  })
  after(() => own[Symbol.dispose]())

  test('mounts no root but its own, which has nothing of the other one', async () => {
    using client = await connectNfs(server.nfs, other)
    for (const path of [
      ...['/', '/srv', state, join(state, 'layers', owner), join(state, 'secrets', owner)],
      ...[`${root}/${owner}`, `${root}/../${owner}`, `${root}/etc/netimage/secrets`, `/${owner}`],
    ]) {
      const { status } = await client.mount(path)
      assert.notEqual(status, 0, path)
    }
    const mounted = await client.mount(root)
    assert.equal(mounted.status, 0)
    for (const names of [secret, hostKey, ['written']]) {
      await own.find(ownRoot, ...names)
      await assert.rejects(client.find(mounted.handle, ...names), /status 2$/, names.join('/'))
    }
    const above = await client.ask('LOOKUP', [mounted.handle, '..'])
    assert.equal(above.status, 0)
    assert.deepEqual(Buffer.from(above.reader.opaque()), mounted.handle)
  })

  test('can do nothing with the handles of the other one', async () => {
    using client = await connectNfs(server.nfs, other)
    assert.equal((await client.mount(root)).status, 0)
    for (const names of [[], secret, hostKey, ['written']]) {
      const handle = await own.find(ownRoot, ...names)
      for (const [name, more] of [
        ['GETATTR', []],
        ['LOOKUP', ['etc']],
        ['READ', [wide(0), 100]],
        ['WRITE', [wide(0), 4, 2, 'evil']],
        ['READDIR', [wide(0), wide(0), 9999]],
      ] as const) {
        const { status } = await client.ask(name, [handle, ...more])
        assert.equal(status, stale, `${name} of /${names.join('/')}`)
      }
    }
  })

  test('gets none of its boot files, secrets and keys by HTTP and TFTP', async () => {
    const curl = (from: string, url: string) =>
      runProgram(findProgram('curl'), ['-sf', '--path-as-is', '--interface', from, url])
    for (const base of [`http://127.0.0.1:${server.http}`, `tftp://127.0.0.1:${server.tftp}`]) {
      for (const path of [`${owner}/config.txt`, 'config.txt']) {
        assert.equal(await curl(owner, `${base}/${path}`), 'the config.txt')
        await assert.rejects(curl(other, `${base}/${path}`), path)
      }
      assert.match(await curl(other, `${base}/boot.ipxe`), /^#!ipxe/)
      for (const path of [
        ...[secret.join('/'), hostKey.join('/'), 'written', 'site.sqlite'],
        ...['secrets', 'boot', 'layers', 'published'].map((each) => `../${each}/${owner}/token`),
        ...[`secrets/${owner}/token`, `boot/${owner}/config.txt`, '..%2fsite.sqlite'],
        ...[`../boot/${owner}/config.txt`, `${owner}/../../secrets/${owner}/token`],
        ...[`${other}/../${owner}/config.txt`, `${owner}/./config.txt`],
      ]) {
        await assert.rejects(curl(other, `${base}/${path}`), path)
      }
    }
  })
})
