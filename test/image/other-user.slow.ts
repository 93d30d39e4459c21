// Builds by a user who is not root, or with a strict umask, make the same image.

import assert from 'node:assert/strict'
import { chmodSync, chownSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { ordinaryUser } from '../support/namespace.ts'
import { netimage, parseObject, type Run } from '../support/netimage.ts'
import { netimageAsUser } from '../support/ordinary-user.ts'
import { runProgram } from '../support/real-nix.ts'
import { buildSmallSystem, type TestSystem } from '../support/systems.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const rootName = 'nixos-net-image-25.11.20261122.test-x86_64-linux'
const asRoot = process.geteuid?.() === 0

suite('an image of an ordinary user', () => {
  let workspace: Workspace
  let system: TestSystem
  let reference: string

  before(async () => {
    workspace = makeWorkspace('user')
    system = await buildSmallSystem(workspace.path('world'))
    const { secretKeyFile } = system.key
    await system.world.copyToCache([system.toplevel], workspace.path('cache'), {
      compression: 'zstd',
      secretKeyFile,
    })
    // The user reads the cache and writes to their own directory.
    chmodSync(workspace.directory, 0o755)
    await runProgram('mkdir', [workspace.path('user')])
    if (asRoot) chownSync(workspace.path('user'), ordinaryUser.uid, ordinaryUser.gid)
    reference = workspace.path('reference')
    const run = await netimage(command(reference, workspace.path('pool')))
    assert.equal(run.status, 0, run.stderr)
  })
  after(() => workspace.remove())

  const populate = [
    '--populate-root-commands',
    // As in a store: even the owner may not write to the directories.
    `mkdir -p files/etc; echo test > files/etc/hostname; cp -r "$store"/*-content/share files/share`,
    '--populate-firmware-commands',
    `cp -r "$store"/*-linux-test kernel; echo config > config.txt; chmod 600 config.txt`,
  ]

  const command = (image: string, pool: string, ...more: string[]) => [
    ...['build', system.toplevel, '--from', `file://${workspace.path('cache')}`, '-o', image],
    ...['--trusted-public-keys', system.key.publicKey, '--pool', pool, ...populate, ...more],
  ]

  const home = () => workspace.path('user')
  const ofUser = (...names: string[]) => join(home(), ...names)

  const runAsUser = (args: string[], through: string[] = []): Promise<Run> =>
    netimageAsUser(args, { place: workspace.path('repository'), home: home(), through })

  const build = async (name: string, more: string[] = [], through: string[] = []) => {
    const run = await runAsUser(command(ofUser(name), ofUser('pool'), ...more), through)
    assert.equal(run.status, 0, run.stderr)
    return ofUser(name)
  }

  test('is whole, and theirs on the disk', async () => {
    const image = await build('image')
    const ours = process.geteuid?.() ?? 0
    const { uid, gid } = asRoot ? ordinaryUser : { uid: ours, gid: process.getegid?.() ?? 0 }
    const stat = statSync(join(image, 'net-image', rootName, 'nix/store'))
    assert.deepEqual([stat.uid, stat.gid], [uid, gid])
    const run = await runAsUser(['verify', image, '--json'])
    assert.equal(run.status, 0, run.stdout)
  })

  test('differs from the image of root only by the owner on the disk', async () => {
    const image = await build('same')
    const trees = (image: string) =>
      describeTree(join(image, 'net-image'), { owners: false, times: false })
    assertSameLines(trees(image), trees(reference))
    const times = (image: string) =>
      describeTree(join(image, 'net-image', rootName), { owners: false })
    assertSameLines(times(image), times(reference))
    const manifest = (image: string) =>
      readFileSync(join(image, 'nix-support/net-image.json'), 'utf8')
    assert.equal(manifest(image), manifest(reference))
    const { root } = parseObject(manifest(image))
    assert.ok(typeof root === 'object' && root !== null && 'owner' in root)
    assert.deepEqual(root.owner, { uid: 0, gid: 0 })
  })

  test('replaces the old image with --force, and leaves no other files', async () => {
    await build('replaced')
    await build('replaced', ['--force', '--link', 'hardlink'])
    await build('replaced', ['--force'])
    assert.deepEqual(
      readdirSync(home()).filter((name) => name.startsWith('.')),
      [],
    )
    assert.deepEqual(readdirSync(ofUser('pool/scratch')), [])
    assert.deepEqual(readdirSync(ofUser('pool/leases')), [])
  })

  test('as an archive belongs to root', async () => {
    const image = await build('tar', ['--format', 'tar'])
    const archive = join(image, 'net-image', `${rootName}.tar`)
    const list = await runProgram('tar', ['--numeric-owner', '-tvf', archive])
    const lines = list.trimEnd().split('\n')
    assert.ok(lines.length > system.paths.length)
    assert.deepEqual(
      lines.filter((line) => !line.includes(' 0/0 ')),
      [],
    )
  })

  test('is the same with the strictest umask', async () => {
    const hidden = ['sh', '-c', 'umask 077; exec "$@"', 'sh']
    const image = await build('umask', [], hidden)
    const lines = (image: string) => describeTree(image, { owners: false, times: false })
    assertSameLines(lines(image), lines(reference))
    const tar = await build('umask-tar', ['--format', 'tar'], hidden)
    assert.equal(statSync(join(tar, 'net-image', `${rootName}.tar`)).mode & 0o777, 0o644)
  })

  test('is the same if root builds it with this umask', async () => {
    const image = workspace.path('umask-root')
    const run = await netimage(command(image, workspace.path('pool-umask')), {
      through: ['sh', '-c', 'umask 077; exec "$@"', 'sh'],
    })
    assert.equal(run.status, 0, run.stderr)
    const lines = (image: string) => describeTree(image, { times: false })
    assertSameLines(lines(image), lines(reference))
  })

  test('leaves a pool that root can clean', async () => {
    await build('before-gc')
    const run = await netimage(['gc', '--pool', ofUser('pool'), '--keep-days', '30', '--json'])
    assert.equal(run.status, 0, run.stderr)
    await build('after-gc')
  })

  test('in a directory that the user may not write to is an error', async () => {
    const run = await runAsUser(command('/forbidden/image', ofUser('pool'), '--json'))
    assert.equal(run.status, 1)
    assert.match(run.stderr, /^error: could not begin the image \/forbidden\/image: EACCES/m)
  })
})
