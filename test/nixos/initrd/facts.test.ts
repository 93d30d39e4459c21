import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { buildDemoSystem } from '../../../demo/system/build.ts'
import {
  readInitrdFacts,
  readInitrdFile,
  type InitrdFacts,
} from '../../../src/nixos/initrd/facts.ts'
import { cacheDirectory } from '../../e2e/support/cache.ts'
import { cpioArchive, modes, type CpioFile } from '../../support/cpio.ts'
import { filterThrough } from '../../support/programs.ts'

suite('the initrd of the demo system', () => {
  let facts: InitrdFacts
  let names: string[]

  before(async () => {
    const { world, toplevel } = await buildDemoSystem({
      cacheDirectory: cacheDirectory('demo-downloads'),
      worldDirectory: cacheDirectory('demo-nix'),
    })
    const bootJson = readFileSync(join(world.realPath(toplevel), 'boot.json'), 'utf8')
    const [path = ''] = /\/nix\/store\/[^"]*\/initrd(?=")/.exec(bootJson) ?? []
    const initrd = world.realPath(path)
    facts = await readInitrdFile(initrd)
    const plain = await filterThrough('gzip', ['-dc'], { input: readFileSync(initrd) })
    const listing = await filterThrough('cpio', ['--quiet', '-it'], { input: plain })
    names = listing.toString().split('\n')
  })

  test('is read to the end', () => {
    assert.equal(facts.unread, undefined)
  })

  test('has the modules and programs that cpio lists', () => {
    const modules = names.flatMap(
      (name) => /([^/]+)\.ko$/.exec(name)?.[1]?.replaceAll('-', '_') ?? [],
    )
    assert.deepEqual([...facts.modules.keys()].toSorted(), modules.toSorted())
    for (const name of ['nfs', 'nfsv3', 'nfsv4', 'virtio_net']) assert.ok(facts.modules.has(name))
    const programs = names.flatMap((name) => /(?:^|\/)bin\/([^/]+)$/.exec(name)?.[1] ?? [])
    assert.deepEqual([...facts.programs.keys()].toSorted(), programs.toSorted())
  })

  test('starts with a script that brings up the network', () => {
    assert.equal(facts.init.kind, 'scripted')
    assert.match(facts.init.kind === 'scripted' ? facts.init.script : '', /udhcpc/)
  })

  test('names the modules that are built into the kernel', () => {
    assert.ok(facts.builtin?.has('unix'))
    assert.ok(!facts.builtin?.has('nfs'))
  })
})

const factsOf = (files: readonly CpioFile[]) => readInitrdFacts([cpioArchive(files)])

suite('the init of an initrd is', () => {
  const program = { mode: modes.program }
  const link = (name: string, data: string) => ({ name, mode: modes.symlink, data })

  test('systemd, by a link before or after the program in the archive', async () => {
    const systemd = { name: 'nix/store/s/lib/systemd/systemd', ...program, data: '\x7fELF' }
    const init = link('init', '/nix/store/s/lib/systemd/systemd')
    for (const files of [
      [systemd, init],
      [init, systemd],
    ]) {
      assert.deepEqual((await factsOf(files)).init, { kind: 'systemd' })
    }
  })

  test('the script of NixOS', async () => {
    const script = '#! /nix/store/e-extra-utils/bin/ash\ntargetRoot=/mnt-root\n'
    const { init } = await factsOf([
      link('init', '/nix/store/x-stage-1-init.sh'),
      { name: 'nix/store/x-stage-1-init.sh', ...program, data: script },
    ])
    assert.deepEqual(init, { kind: 'scripted', script })
  })

  test('another program, or missing', async () => {
    const other = { name: './init', ...program, data: '#!/bin/sh\nexec /linuxrc\n' }
    assert.deepEqual((await factsOf([other])).init, { kind: 'other' })
    assert.deepEqual((await factsOf([{ name: 'init', ...program, data: '\x7fELF' }])).init, {
      kind: 'other',
    })
    assert.deepEqual((await factsOf([link('init', '/nowhere')])).init, { kind: 'none' })
    assert.deepEqual((await factsOf([link('init', 'init')])).init, { kind: 'none' })
  })
})

suite('an initrd has', () => {
  test('modules with any compression', async () => {
    const folder = 'nix/store/m-modules-shrunk/lib/modules/6.12/kernel'
    const files = [
      'fs/nfs/nfs.ko',
      'fs/nfs/nfsv3.ko.xz',
      'drivers/net/xen-netfront.ko.zst',
      'x.ko.gz',
    ]
    const facts = await factsOf([
      ...files.map((file) => ({ name: `${folder}/${file}` })),
      { name: 'lib/modules/6.12/modules.builtin', data: 'kernel/fs/a-b.ko\nkernel/c.ko\n\n' },
      { name: 'lib/notes.komodo' },
    ])
    assert.deepEqual([...facts.modules.keys()], ['nfs', 'nfsv3', 'xen_netfront', 'x'])
    assert.equal(facts.modules.get('nfs'), `/${folder}/fs/nfs/nfs.ko`)
    assert.deepEqual(
      [...(facts.builtin ?? [])],
      [
        ['a_b', 'kernel/fs/a-b.ko'],
        ['c', 'kernel/c.ko'],
      ],
    )
  })

  test('programs in any directory, and links to them', async () => {
    const { programs } = await factsOf([
      { name: 'nix/store/e/sbin/mount.nfs', mode: modes.symlink, data: 'x' },
      { name: 'usr/lib/klibc/bin/nfsmount', mode: modes.program },
      { name: 'nix/store/s/lib/systemd/systemd-networkd', mode: modes.program },
      { name: 'share/doc/mount.nfs4' },
    ])
    assert.deepEqual([...programs.keys()], ['mount.nfs', 'nfsmount', 'systemd-networkd'])
  })

  test('programs in /sbin, by links', async () => {
    const link = (name: string, data: string) => ({ name, mode: modes.symlink, data })
    const { sbin } = await factsOf([
      link('sbin', '/nix/store/b-env/sbin'),
      link('nix/store/b-env/sbin/mount.nfs', '../../n/bin/mount.nfs'),
      link('nix/store/b-env/sbin/gone', '/nix/store/g/bin/gone'),
      { name: 'nix/store/n/bin/mount.nfs', mode: modes.program },
      { name: 'nix/store/b-env/bin/mount.nfs4', mode: modes.program },
    ])
    assert.deepEqual([...sbin], ['mount.nfs'])
  })

  test('files of /etc, and of the etc of a store path', async () => {
    const { etcFiles } = await factsOf([
      { name: 'etc/protocols', mode: modes.symlink, data: '/nix/store/i/etc/protocols' },
      { name: 'nix/store/i/etc/protocols' },
      { name: 'etc/systemd/other' },
    ])
    assert.deepEqual([...etcFiles], ['protocols'])
  })

  test('networks of networkd', async () => {
    const text = '[Match]\nType=ether\n[Network]\nDHCP=yes\n'
    const { networks } = await factsOf([{ name: 'nix/store/n/10-root.network', data: text }])
    assert.deepEqual([...networks], [['/nix/store/n/10-root.network', text]])
  })

  test('secrets and host keys', async () => {
    const key = [
      '-----BEGIN OPENSSH PRIVATE KEY-----',
      'b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW',
      'QyNTUxOQ==',
      '-----END OPENSSH PRIVATE KEY-----',
      '',
    ].join('\n')
    const { secrets } = await factsOf([
      { name: 'etc/ssh/ssh_host_ed25519_key', data: key },
      { name: 'etc/ssh/ssh_host_ed25519_key.pub', data: 'ssh-ed25519 AAAA root@host\n' },
      { name: 'root/id', data: key },
    ])
    assert.deepEqual(secrets, [
      { path: '/etc/ssh/ssh_host_ed25519_key', kind: 'private key', isHostKey: true },
      { path: '/root/id', kind: 'private key', isHostKey: false },
    ])
  })

  test('the facts before the damage, if it is broken', async () => {
    const good = cpioArchive([{ name: 'a.ko' }])
    const facts = await readInitrdFacts([good, Buffer.from('junk')])
    assert.deepEqual([...facts.modules.keys()], ['a'])
    assert.match(facts.unread?.why ?? '', /neither an archive/)
    assert.equal(facts.unread?.compression, undefined)
  })
})
