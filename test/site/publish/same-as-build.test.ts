// The boot files of a system that a machine publishes are those that `build` makes for it.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import type { BootSettings } from '../../../src/boot/request.ts'
import type { BootWay } from '../../../src/boot/ways.ts'
import { buildNetImage } from '../../../src/image/build.ts'
import { imageLayout } from '../../../src/image/layout.ts'
import { readImage } from '../../../src/image/manifest.ts'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { openLayer } from '../../roots/support/open-layer.ts'
import { openPublished, publish } from '../../../src/site/publish/published.ts'
import { fetchFirmware } from '../../e2e/support/firmware.ts'
import { cachedPath, inventPath, makeKey, writeCache, type Tree } from '../../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'
import { plantAll, type Made } from './support/roots.ts'
import { readImageIndex } from '../../roots/support/tree-index.ts'

const directory = temporaryDirectory()
const freshName = freshNames(directory)
const key = makeKey('published-1')
const { stubs } = await fetchFirmware()

/** A system with a specialisation, device trees, and systemd's stub. */
function makeSystem(name: string, platform: 'x86_64-linux' | 'aarch64-linux') {
  const paths = new Map<string, Tree>()
  const add = (part: string, tree: Tree) => {
    const path = inventPath(`${part}-${name}`)
    paths.set(path, tree)
    return path
  }
  const text = (file: string): Tree => ({ file })
  const kernel = add('linux', { directory: { Image: text(`kernel ${name}`), dtb: text('dtb') } })
  const initrd = add('initrd', { directory: { initrd: text(`initrd ${name}`) } })
  const dtbs = add('dtbs', {
    directory: {
      broadcom: {
        directory: {
          'bcm2711-rpi-4-b.dtb': text(`Pi 4 ${name}`),
          'bcm2837-rpi-3-b.dtb': { link: `${kernel}/dtb` },
        },
      },
      overlays: { directory: { 'a.dtbo': text('overlay'), more: { link: '../broadcom' } } },
    },
  })
  const processor = platform === 'x86_64-linux' ? 'x64' : 'aa64'
  const stub: Tree = { file: readFileSync(stubs[platform]) }
  const efi = { [`linux${processor}.efi.stub`]: stub }
  const boot = { directory: { efi: { directory: efi } } }
  const lib = { directory: { systemd: { directory: { boot } } } }
  const systemd = add('systemd', { directory: { lib } })
  const etc = add('etc', {
    directory: {
      etc: {
        directory: {
          'os-release': text(`NAME=${name}\n`),
          fstab: text('10.0.0.5:/srv/pi / nfs vers=3 0 0\n'),
        },
      },
    },
  })
  const toplevelOf = (params: string, more: Record<string, Tree>): Tree => ({
    directory: {
      init: text('#!/bin/sh\n'),
      'nixos-version': text(name),
      system: text(platform),
      'kernel-params': text(params),
      kernel: { link: `${kernel}/Image` },
      initrd: { link: `${initrd}/initrd` },
      dtbs: { link: dtbs },
      systemd: { link: systemd },
      etc: { link: `${etc}/etc` },
      ...more,
    },
  })
  const special = add('nixos-system-special', toplevelOf('quiet debug', {}))
  const specialisation: Tree = { directory: { special: { link: special } } }
  const references = [...paths.keys()]
  const toplevel = add('nixos-system', toplevelOf('quiet', { specialisation }))
  return { toplevel, paths, references }
}

type System = ReturnType<typeof makeSystem>

async function build(
  system: System,
  boot: BootWay[],
  bootSettings: BootSettings,
  populateFirmwareCommands = '',
) {
  const cache = freshName()
  const cached = [...system.paths].map(([path, tree]) => {
    const references = path === system.toplevel ? system.references : []
    return cachedPath(path, tree, { references, keys: [key], compression: 'none' })
  })
  writeCache(cache, cached)
  const { image } = await buildNetImage({
    ...{ system: system.toplevel, from: [`file://${cache}`], pool: join(directory, 'pool') },
    ...{ trustedPublicKeys: [key.publicKey], output: freshName(), boot, bootSettings },
    options: { nfsRoot: '10.0.0.5:/srv/pi,v3', populateFirmwareCommands },
  })
  const { manifest } = await readImage(image)
  return { manifest, layout: imageLayout(image, manifest.options.rootDirectoryName) }
}

const firmware = join(directory, 'firmware')
for (const name of ['start4.elf', 'fixup4.dat', 'bcm2711-rpi-400.dtb', 'overlays/b.dtbo']) {
  mkdirSync(dirname(join(firmware, name)), { recursive: true })
  writeFileSync(join(firmware, name), `firmware ${name}`)
}
const ipxe = join(directory, 'ipxe')
mkdirSync(ipxe)
writeFileSync(join(ipxe, 'undionly.kpxe'), 'iPXE')
const uboot = join(directory, 'u-boot')
writeFileSync(uboot, 'U-Boot')

const ways: Record<string, [Parameters<typeof makeSystem>[1], BootWay[], BootSettings, string?]> = {
  'iPXE, pxelinux and UEFI on a PC': ['x86_64-linux', ['extlinux', 'ipxe', 'uefi'], { ipxe }],
  'U-Boot with a device tree, and UEFI': [
    'aarch64-linux',
    ['extlinux', 'uefi'],
    { deviceTree: 'broadcom/bcm2711-rpi-4-b.dtb', machines: ['02:00:00:00:00:01'] },
  ],
  'a Raspberry Pi whose firmware starts U-Boot': [
    'aarch64-linux',
    ['raspberry-pi', 'ipxe'],
    { firmware, uboot, ipxe },
  ],
  'a Raspberry Pi with files of commands': [
    'aarch64-linux',
    ['raspberry-pi'],
    { firmware, configTxt: 'dtoverlay=disable-wifi' },
    'mkdir -p splash; echo picture > splash/logo; echo "enable_uart=1" > config.txt',
  ],
}

suite('a system that a machine publishes', () => {
  for (const [what, [platform, boot, settings, commands]] of Object.entries(ways)) {
    test(`gets the same boot files as a build: ${what}`, async () => {
      const [first, second] = [makeSystem('first', platform), makeSystem('second', platform)]
      const image = await build(first, boot, settings, commands)
      const { manifest, layout } = image
      const expected = await build(second, boot, settings, commands)

      const layerDirectory = freshName()
      mkdirSync(layerDirectory)
      const index = readImageIndex(layout.image, layout.root)
      const layer = openLayer(layerDirectory, index)
      try {
        const { fileSystem } = layer
        const warnings: string[] = []
        const place = freshName()
        const publishing = async (toplevel: string) => {
          const path = toStorePath(toplevel)
          assert.ok(path)
          return await publish({
            ...{ view: fileSystem, toplevel: path, directory: place },
            image: { id: 'image', manifest, bootTree: layout.boot, keptImages: ['earlier'] },
            warn: (message) => warnings.push(message),
            signal: new AbortController().signal,
          })
        }
        // The system of the image, and a system that the machine has added.
        const own = await publishing(first.toplevel)
        plantAll(fileSystem, Object.fromEntries<Made>(second.paths))
        const added = await publishing(second.toplevel)
        for (const [made, { layout: built, manifest: described }] of [
          [own, image],
          [added, expected],
        ] as const) {
          assertSameLines(
            describeTree(made.bootTree, { times: false }),
            describeTree(built.boot, { times: false }),
          )
          assert.deepEqual(made.boot.files, described.boot.files)
          assert.deepEqual(made.system, described.system)
          assert.deepEqual(made.keptImages, ['earlier'])
          // The document says the same after it was written and read.
          assert.deepEqual(await openPublished(place, made.id), made)
        }
        assert.deepEqual(
          warnings.filter((warning) => !warning.includes('has no menu')),
          [],
        )
        assert.ok(!existsSync(join(place, 'unfinished')))
        assert.equal((await publishing(second.toplevel)).id, added.id, 'the same system again')
      } finally {
        await layer.close()
        index.close()
      }
    })
  }
})
