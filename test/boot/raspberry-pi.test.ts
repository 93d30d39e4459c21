// The Raspberry Pi's boot tree, with the firmware layouts of nixpkgs and Debian. test/e2e makes the
// requests of each model's loader.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import type { BootFile } from '../../src/boot/boot-files.ts'
import { raspberryPiFiles } from '../../src/boot/raspberry-pi.ts'
import type { BootRequest, BootSettings } from '../../src/boot/request.ts'
import { defaultWays } from '../../src/boot/ways.ts'
import { findStoreFile } from '../../src/nixos/store-files.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { netimageError } from '../support/errors.ts'
import { parseStorePathOf } from '../support/store-paths.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { readConfigTxt } from '../e2e/support/pi/config-txt.ts'

const directory = temporaryDirectory()
const store = join(directory, 'store')
const [kernel, dtbs, toplevel] = ['kernel', 'dtbs', 'system'].map(parseStorePathOf)

function put(path: string, content = path): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, content)
}

put(`${store}${kernel}/Image`)
put(`${store}${kernel}/initrd`)
put(`${store}${dtbs}/broadcom/bcm2711-rpi-4-b.dtb`)
put(`${store}${dtbs}/broadcom/bcm2712-rpi-5-b.dtb`)
put(`${store}${dtbs}/allwinner/sun50i-a64.dtb`)
for (const folder of ['nixpkgs/share/raspberrypi/boot', 'debian/usr/lib/raspi-firmware']) {
  for (const name of ['bootcode.bin', 'start.elf', 'start4.elf', 'fixup4.dat', 'LICENCE']) {
    put(join(directory, folder, name))
  }
  put(join(directory, folder, 'bcm2711-rpi-4-b.dtb'), 'the firmware’s own')
  put(join(directory, folder, 'bcm2711-rpi-400.dtb'))
  put(join(directory, folder, 'overlays/disable-wifi.dtbo'))
}

function requestOf(
  settings: BootSettings,
  dtbsOf = parseStorePathOf('dtbs'),
  platform = 'aarch64-linux',
  warnings: string[] = [],
): BootRequest {
  const entry = {
    label: '25.11',
    kernel: `${kernel}/Image`,
    initrd: `${kernel}/initrd`,
    init: `${toplevel}/init`,
    kernelParams: ['console=ttyS1,115200'],
    dtbs: dtbsOf,
  }
  const treeOf = (path: string) => Promise.resolve(`${store}${path}`)
  return {
    system: {
      toplevel: parseStorePathOf('system'),
      label: '25.11',
      platform,
      entries: [entry],
      fileSystems: [],
    },
    nfsRoot: parseNfsRoot('10.0.0.5:/srv/pi,v3'),
    settings,
    find: (path) => findStoreFile(treeOf, path),
    warn: (message) => warnings.push(message),
  }
}

async function files(...wanted: Parameters<typeof requestOf>) {
  const [settings, dtbsOf, platform, warnings = []] = wanted
  const made = await raspberryPiFiles(requestOf(settings, dtbsOf, platform, warnings))
  return { made: new Map(made.map((file) => [file.path, file])), warnings }
}

function text(file: BootFile | undefined): string {
  assert.equal(file?.content.kind, 'text')
  return file.content.text
}

suite('the boot tree of a Raspberry Pi', () => {
  for (const layout of ['nixpkgs', 'debian']) {
    test(`has the files that its loader fetches, with the firmware layout of ${layout}`, async () => {
      const { made, warnings } = await files({ firmware: join(directory, layout) })
      assert.deepEqual([...made.keys()].sort(), [
        'bcm2711-rpi-4-b.dtb',
        'bcm2711-rpi-400.dtb',
        'bcm2712-rpi-5-b.dtb',
        'bootcode.bin',
        'cmdline.txt',
        'config.txt',
        'fixup4.dat',
        'initrd',
        'kernel8.img',
        'overlays',
        'start.elf',
        'start4.elf',
      ])
      assert.deepEqual(warnings, [])
      const tree = made.get('bcm2711-rpi-4-b.dtb')?.content
      assert.ok(
        tree?.kind === 'copy' && tree.from.startsWith(store),
        'the kernel’s device tree is preferred',
      )
    })
  }

  test('has the kernel’s device trees, not the firmware’s, under the names that loaders ask for', async () => {
    const firmware = join(directory, 'downstream')
    put(join(firmware, 'start.elf'))
    const asked = ['bcm2710-rpi-3-b', 'bcm2710-rpi-cm3', 'bcm2711-rpi-cm4', 'bcm2712d0-rpi-5-b']
    for (const name of [...asked, 'bcm2711-rpi-400']) put(join(firmware, `${name}.dtb`))
    const mainline = parseStorePathOf('mainline-dtbs')
    const own = [
      'bcm2837-rpi-3-b',
      'bcm2837-rpi-cm3-io3',
      'bcm2711-rpi-cm4-io',
      'bcm2712-d-rpi-5-b',
    ]
    for (const name of own) put(`${store}${mainline}/broadcom/${name}.dtb`)
    const { made } = await files({ firmware }, mainline)
    const from = asked.map((name) => {
      const content = made.get(`${name}.dtb`)?.content
      return content?.kind === 'copy' ? content.from : undefined
    })
    assert.deepEqual(
      from,
      own.map((name) => `${store}${mainline}/broadcom/${name}.dtb`),
    )
    const other = made.get('bcm2711-rpi-400.dtb')?.content
    assert.ok(other?.kind === 'copy' && other.from.startsWith(firmware))
  })

  test('has device trees and overlays that are links into other store paths', async () => {
    const joined = parseStorePathOf('joined')
    const overlays = parseStorePathOf('overlays')
    put(`${store}${overlays}/overlays/mine.dtbo`)
    mkdirSync(`${store}${joined}`)
    symlinkSync(`${dtbs}/broadcom`, `${store}${joined}/broadcom`)
    symlinkSync(`${overlays}/overlays`, `${store}${joined}/overlays`)
    const { made } = await files({ firmware: join(directory, 'debian') }, joined)
    for (const name of ['bcm2712-rpi-5-b.dtb', 'overlays']) {
      const content = made.get(name)?.content
      assert.ok(content?.kind === 'copy' && content.from.startsWith(store), name)
    }
  })

  test('is refused for a system of another processor', async () => {
    for (const platform of ['armv7l-linux', 'x86_64-linux']) {
      const made = files({ firmware: join(directory, 'debian') }, undefined, platform)
      await assert.rejects(made, netimageError('bad-option', new RegExp(platform)))
    }
  })

  test('has the kernel line as one line', async () => {
    const { made } = await files({ firmware: join(directory, 'debian') })
    assert.equal(
      text(made.get('cmdline.txt')),
      `init=${toplevel}/init console=ttyS1,115200 root=/dev/nfs nfsroot=10.0.0.5:/srv/pi,v3 ip=dhcp\n`,
    )
  })

  test('loads the initrd after the kernel, and has the person’s lines', async () => {
    const { made } = await files({
      firmware: join(directory, 'debian'),
      configTxt: 'dtparam=i2c=on',
    })
    const config = text(made.get('config.txt'))
    assert.match(config, /^\[all\]\nkernel=kernel8\.img\ninitramfs initrd followkernel$/m)
    assert.match(config, /\n\ndtparam=i2c=on\n$/)
  })

  test('starts U-Boot, but on a Pi 5, whose network U-Boot does not know, the kernel', async () => {
    const uboot = join(directory, 'u-boot/u-boot.bin')
    put(uboot)
    const { made } = await files({ firmware: join(directory, 'debian'), uboot })
    assert.deepEqual(made.get('u-boot.bin')?.content, { kind: 'copy', from: uboot })
    const config = text(made.get('config.txt'))
    for (const [filters, kernel, initrd] of [
      [['pi3'], 'u-boot.bin', undefined],
      [['pi4'], 'u-boot.bin', undefined],
      [['pi5'], 'kernel8.img', ['initrd']],
    ] as const) {
      const read = readConfigTxt(config, filters)
      assert.equal(read.values.get('kernel'), kernel)
      assert.deepEqual(read.initramfs?.files, initrd)
      assert.equal(read.values.get('enable_uart'), '1')
    }
    for (const wrong of [directory, join(directory, 'gone')]) {
      await assert.rejects(
        files({ uboot: wrong }),
        netimageError('bad-option', /--uboot: .* is not/),
      )
    }
  })

  test('is one of the default ways with its firmware or U-Boot, and has no menu before iPXE', async () => {
    const [firmware, uboot, ipxe] = [join(directory, 'debian'), 'u-boot.bin', 'ipxe']
    for (const [settings, ways] of [
      [{ firmware }, ['extlinux', 'raspberry-pi']],
      [{ uboot }, ['extlinux', 'raspberry-pi']],
      [{ firmware, ipxe }, ['extlinux', 'ipxe', 'raspberry-pi']],
      [{ firmware, uboot, ipxe }, ['raspberry-pi', 'ipxe']],
    ] as const) {
      assert.deepEqual(await defaultWays(requestOf(settings)), ways)
    }
  })

  test('gives no warning of missing or too large files, which the checks report', async () => {
    truncateSync(`${store}${kernel}/initrd`, 120_000_000)
    assert.deepEqual((await files({ firmware: join(directory, 'debian') })).warnings, [])
    assert.deepEqual((await files({})).warnings, [])
    assert.deepEqual((await files({}, undefined)).warnings, [])
  })

  test('is refused with a directory that has no firmware', async () => {
    await assert.rejects(files({ firmware: store }), { code: 'bad-option' })
  })
})
