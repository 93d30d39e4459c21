// Menus for U-Boot and syslinux that no machine of test/e2e boots with.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { sharedPath } from '../../src/boot/boot-files.ts'
import { extlinuxFiles } from '../../src/boot/extlinux.ts'
import type { BootSettings } from '../../src/boot/request.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { findStoreFile } from '../../src/nixos/store-files.ts'
import type { BootEntry } from '../../src/nixos/system.ts'
import { netimageError } from '../support/errors.ts'
import { parseStorePathOf } from '../support/store-paths.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const store = temporaryDirectory()
const toplevel = parseStorePathOf('system')

function entry(kernel: string, specialisation?: string): BootEntry {
  const path = parseStorePathOf(kernel)
  const dtbs = `${path}/dtbs`
  for (const name of ['Image', 'initrd', 'dtbs/rockchip/rk3399-rockpro64.dtb']) {
    const file = join(store, path, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, name)
  }
  const files = { kernel: `${path}/Image`, initrd: `${path}/initrd`, init: `${path}/init`, dtbs }
  return { label: kernel, kernelParams: [], ...files, specialisation }
}

async function make(
  entries: BootEntry[],
  settings: BootSettings = {},
  platform = 'aarch64-linux',
  warnings: string[] = [],
): Promise<Map<string, string>> {
  const made = await extlinuxFiles({
    system: { toplevel, label: '25.11', platform, entries, fileSystems: [] },
    nfsRoot: parseNfsRoot('10.0.0.5:/srv,v3'),
    settings,
    find: (path) => findStoreFile((path) => Promise.resolve(`${store}${path}`), path),
    warn: (message) => warnings.push(message),
  })
  return new Map(
    made.map(({ path, content }) => [path, content.kind === 'text' ? content.text : content.kind]),
  )
}

suite('extlinux', () => {
  const [own, vendor] = [entry('linux-6.12'), entry('linux-rpi-6.6', 'vendor')]

  test('names the device trees of its own kernel for a specialisation', async () => {
    const made = await make([own, vendor])
    const menu = made.get('pxelinux.cfg/default') ?? ''
    const trees = [...menu.matchAll(/^ {2}FDTDIR (\S+)$/gm)].map(([, path = '']) => path)
    assert.deepEqual(
      trees,
      [own, vendor].map(({ dtbs = '' }) => sharedPath(dtbs, 'directory')),
    )
    for (const path of trees) assert.equal(made.get(path), 'copy')
  })

  test('names the device tree that was asked for, and requires that the file exists', async () => {
    const deviceTree = 'rockchip/rk3399-rockpro64.dtb'
    const menu = (await make([own], { deviceTree })).get('extlinux/extlinux.conf') ?? ''
    assert.match(menu, /^ {2}FDT \.\.\/nixos\/\S+-dtbs\/rockchip\/rk3399-rockpro64\.dtb$/m)
    assert.doesNotMatch(menu, /FDTDIR/)
    for (const deviceTree of ['none.dtb', 'rockchip', '../Image', '/etc/passwd', 'a b']) {
      await assert.rejects(make([own], { deviceTree }), netimageError('bad-option', /device tree/))
    }
    const without = { ...own, dtbs: undefined }
    await assert.rejects(make([without], { deviceTree }), netimageError('bad-option'))
  })

  test('names the device tree for the entries that have it, and warns of the others', async () => {
    const deviceTree = 'rockchip/rk3399-rockpro64.dtb'
    const other = entry('linux-other', 'other')
    rmSync(join(store, other.dtbs ?? '', deviceTree))
    const bare = { ...entry('linux-bare', 'bare'), dtbs: undefined }
    const warnings: string[] = []
    const made = await make([own, vendor, other, bare], { deviceTree }, undefined, warnings)
    const menu = made.get('pxelinux.cfg/default') ?? ''
    const words = menu.match(/^ {2}FDT(?:DIR)? \S+/gm)?.map((line) => line.trim().split(' '))
    const trees = (entry: BootEntry) => sharedPath(entry.dtbs ?? '', 'directory')
    assert.deepEqual(words, [
      ['FDT', `${trees(own)}/${deviceTree}`],
      ['FDT', `${trees(vendor)}/${deviceTree}`],
      ['FDTDIR', trees(other)],
    ])
    assert.match(
      warnings.join('\n'),
      /for other: the file is not in \S+\n.* for bare: the system has no device trees/,
    )
  })

  test('makes a label one word, because syslinux reads only one word', async () => {
    const rig = entry('linux-rig', 'gaming rig')
    const menu = (await make([own, rig], {}, 'x86_64-linux')).get('pxelinux.cfg/default') ?? ''
    assert.match(menu, /^LABEL nixos-1-gaming-rig$/m)
    assert.match(menu, /^SAY +nixos-1-gaming-rig$/m)
  })

  test('prompts on a PC, because syslinux would start the default at once', async () => {
    const menu = async (platform: string, entries: BootEntry[]) =>
      (await make(entries, {}, platform)).get('pxelinux.cfg/default') ?? ''
    assert.match(await menu('x86_64-linux', [own, vendor]), /^PROMPT 1\n.*\nSAY .*nixos-default$/m)
    assert.doesNotMatch(await menu('x86_64-linux', [own]), /PROMPT/)
    assert.doesNotMatch(await menu('aarch64-linux', [own, vendor]), /PROMPT|SAY/)
  })
})

test('names are shortened if U-Boot would cut them', () => {
  const hash = '0'.repeat(32)
  const short = `/nix/store/${hash}-linux-6.12.47/Image`
  assert.equal(sharedPath(short), `nixos/${hash}-linux-6.12.47-Image`)
  const cross = 'linux-rpi-aarch64-unknown-linux-gnu-6.12.47-stable_20250916'
  assert.equal(sharedPath(`/nix/store/${hash}-initrd-${cross}/initrd`), `nixos/${hash}-initrd`)
  assert.equal(sharedPath(`/nix/store/${hash}-${cross}/dtbs`, 'directory'), `nixos/${hash}-dtbs`)
  assert.equal(sharedPath(`/nix/store/${hash}-${cross}`, 'directory'), `nixos/${hash}`)
})
