// Compares the findings of `netimage check` about boot trees with real loaders, which do not find a
// file or cut it.

import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import type { DemoSystemName } from '../../demo/system/build.ts'
import type { BootWay } from '../../src/index.ts'
import { runProgram } from '../support/real-nix.ts'
import { routerAdvertisements } from './support/configuration.ts'
import { buildBootableSystem, buildDemoImage, small } from './support/demo-image.ts'
import { findingsOf } from './support/findings.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { arm64Uboot, powerOn, x86Bios, type Machine } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { bootPi, buildPiImage } from './support/raspberry-pi.ts'
import { startLoaderServers } from './support/servers.ts'

type BrokenTree = {
  rules: readonly string[]
  what: string
  level?: 'error' | 'warning'
  way: BootWay
  /** Shell commands that break the menu with the files for the loader. */
  menu: string
  change: (text: string) => string
  system: DemoSystemName
  machine: (firmware: Firmware) => Machine
  mac: string
  /** The last of these may be the message of the loader that it starts the kernel. */
  shows: readonly RegExp[]
}

const uboot = {
  way: 'extlinux',
  menu: 'pxelinux.cfg/default',
  system: 'aarch64-linux',
  // Boards that load device trees have an address for them. QEMU's board has none, so set one.
  machine: (firmware: Firmware) => arm64Uboot(firmware, 'setenv fdt_addr_r 0x4f000000; '),
  mac: '52:52:52:52:52:52',
} as const

const brokenTrees: readonly BrokenTree[] = [
  {
    ...uboot,
    rules: ['missing-kernel-file', 'missing-device-tree'],
    what: 'U-Boot, a kernel and one device tree',
    // U-Boot goes on with the other entries if it cannot boot the default.
    change: (text) =>
      text.replace(/LINUX .*/, 'LINUX gone').replaceAll(/FDTDIR .*/g, 'FDT gone.dtb'),
    shows: [
      /Skipping nixos-default for failure retrieving kernel/,
      /Skipping \S+ for failure retrieving FDT/,
    ],
  },
  {
    ...uboot,
    rules: ['missing-device-tree'],
    what: 'U-Boot, a folder of device trees',
    change: (text) => text.replaceAll(/FDTDIR .*/g, 'FDTDIR gone'),
    level: 'warning',
    shows: [/Filename 'gone\/qemu-arm\.dtb'/, /TFTP error/, /Starting kernel/],
  },
  {
    rules: ['missing-kernel-file'],
    what: 'iPXE',
    way: 'ipxe',
    menu: 'boot.ipxe',
    change: (text) => text.replaceAll(/^kernel \S+/gm, 'kernel gone'),
    system: 'x86_64-linux',
    machine: x86Bios,
    mac: '52:54:00:00:00:01',
    shows: [/gone\.\.\. No such file/, /This machine could not/],
  },
]

suite('predictions of check about loaders', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-loaders-'))
  after(() => rmSync(directory, { recursive: true, force: true }))

  for (const [index, broken] of brokenTrees.entries()) {
    const { rules, what, way, menu, change, system, machine, mac, shows, level = 'error' } = broken
    test(`${rules.join(', ')}: ${what}`, async () => {
      const firmware = await fetchFirmware()
      const demo = await buildBootableSystem(system, small)
      const request = { boot: [way], bootSettings: { ipxe: firmware.ipxe } }
      const whole = await buildDemoImage(demo, join(directory, `${index}-whole`), request)
      const before = await findingsOf(whole.image)
      assert.ok(!rules.some((rule) => before.has(rule)))

      const sound = readFileSync(join(whole.bootTree, menu), 'utf8')
      const text = change(sound)
      assert.notEqual(text, sound)
      const { image } = await buildDemoImage(demo, join(directory, `${index}`), {
        ...request,
        options: { populateFirmwareCommands: writing(menu, text) },
      })
      const found = await findingsOf(image)
      for (const rule of rules) assert.equal(found.get(rule)?.level, level)

      await using network = await openNetwork(`failing-loader-${index}`)
      await startLoaderServers(network, image, { dnsmasq: routerAdvertisements })
      const powered = await powerOn(network, { name: 'machine', mac, machine: machine(firmware) })
      if (way === 'ipxe') {
        await powered.waitFor(/NixOS over the network/)
        powered.type('\r')
      } else {
        await powered.waitFor(/Enter choice:/)
        powered.type('1\r')
      }
      for (const pattern of shows) await powered.waitFor(pattern)
      await powered.powerOff()
    })
  }

  test('missing-firmware-file: a Raspberry Pi 4', async () => {
    const { raspberryPi } = await fetchFirmware()
    const firmware = join(directory, 'firmware')
    cpSync(raspberryPi, firmware, { recursive: true })
    await runProgram('find', [firmware, '-name', 'start4.elf', '-delete'])
    const { image } = await buildPiImage(join(directory, 'pi4'), { firmware })
    const finding = (await findingsOf(image)).get('missing-firmware-file')
    // Only a warning, because the same tree starts a Raspberry Pi 3.
    assert.equal(finding?.level, 'warning')
    assert.ok((await bootPi('pi4', image)).problems.includes('no firmware: start4.elf'))
    assert.deepEqual((await bootPi('pi3', image)).problems, [])
  })

  test('file-too-large-for-loader: a Raspberry Pi 5', async () => {
    const whole = await buildPiImage(join(directory, 'pi5-whole'))
    const config = readFileSync(join(whole.bootTree, 'config.txt'), 'utf8')
    const text = config.replace(/^initramfs \S+/m, 'initramfs big')
    assert.notEqual(text, config)
    const commands = `truncate -s 97000000 big; ${writing('config.txt', text)}`
    const { image } = await buildPiImage(join(directory, 'pi5'), { commands })
    assert.equal((await findingsOf(image)).get('file-too-large-for-loader')?.level, 'warning')
    const { problems } = await bootPi('pi5', image)
    assert.deepEqual(
      problems.map((problem) => problem.replace(/\d+/, 'N')),
      ['big is cut after N blocks'],
    )
  })
})

/** Shell commands that write a file of the boot tree. */
function writing(file: string, text: string): string {
  return `mkdir -p $(dirname ${file}); cat > ${file} <<'END'\n${text}\nEND\n`
}
