// A Raspberry Pi whose firmware starts U-Boot, which starts iPXE, which takes kernel and initrd over
// HTTP. A program stands for the firmware. U-Boot for QEMU's board stands for U-Boot for the Pi.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import * as v from 'valibot'
import { sharedPath } from '../../src/boot/boot-files.ts'
import { findProgram } from '../support/packages.ts'
import type { DemoImage } from './support/demo-image.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { buildGeneration, type Kind } from './support/generations.ts'
import { arm64UbootAlone, powerOn } from './support/machines.ts'
import { openNetwork, type Network } from './support/network.ts'
import { assertBoot, startOwnServer, type OwnServer } from './support/own-server.ts'
import { assertStartsSystem, boards, loadPi, sha256 } from './support/raspberry-pi.ts'

/** What the server prints when a machine has a file. */
const sentSchema = v.object({
  machine: v.string(),
  event: v.object({
    kind: v.picklist(['tftp', 'http']),
    step: v.literal('end'),
    file: v.string(),
  }),
})

suite('a Raspberry Pi whose firmware starts U-Boot', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pi-uboot-'))
  let firmware: Firmware
  let first: DemoImage
  let update: DemoImage
  let network: Network
  let server: OwnServer

  const filesOf = (image: DemoImage) => {
    const [entry] = image.manifest.system.entries
    assert.ok(entry?.initrd !== undefined)
    return { entry, kernel: sharedPath(entry.kernel), initrd: sharedPath(entry.initrd) }
  }
  const assign = (mac: string, image: DemoImage) =>
    server.site('assign', mac, image.manifest.options.rootDirectoryName)

  before(async () => {
    // The user of the server adds images from there.
    chmodSync(directory, 0o755)
    firmware = await fetchFirmware()
    const { raspberryPi, uboot, ipxe } = firmware
    const build = (kind: Kind) =>
      buildGeneration(kind, 'aarch64-linux', directory, firmware, {
        boot: ['raspberry-pi', 'ipxe'],
        bootSettings: { firmware: raspberryPi, uboot, ipxe },
      })
    first = await build('first')
    update = await build('update')
    network = await openNetwork('raspberry-pi-uboot')
    server = await startOwnServer(network, [first.image], 'full')
    await server.site('add', update.image)
  })
  after(async () => {
    await network[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  test('gets U-Boot from its image, and iPXE the kernel of what the server chose', async () => {
    const { mac } = boards.pi4
    const pi = await network.addHost(mac)
    const fetch = (file: string, ...flags: string[]) =>
      pi.run([findProgram('curl'), '-sSf', ...flags, `http://${network.server}/${file}`])
    const assertBoots = async (image: DemoImage) => {
      const { kernel, initrd, deviceTree, problems } = await loadPi(pi, 'pi4')
      assert.deepEqual([kernel?.path, kernel?.sha256], ['u-boot.bin', sha256(firmware.uboot)])
      assert.deepEqual([initrd, problems], [[], []])
      assert.equal(deviceTree?.path, 'bcm2711-rpi-4-b.dtb')
      // As iPXE does.
      const script = await fetch('boot.ipxe')
      const [, named = ''] = /^kernel (\S+) /m.exec(script) ?? []
      const copy = join(network.directory, 'kernel')
      await fetch(named, '--output', copy)
      const { entry } = filesOf(image)
      assert.equal(sha256(copy), sha256(image.demo.world.realPath(entry.kernel)))
    }
    assert.notEqual(filesOf(first).kernel, filesOf(update).kernel)
    await assertBoots(first)
    await server.site('good', mac)
    await assign(mac, update)
    await assertBoots(update)
    await server.site('rollback', mac)
    await assertBoots(first)
  })

  test('starts the kernel itself on a pi5, whose network U-Boot does not know', async () => {
    assertStartsSystem('pi5', await loadPi(await network.addHost(boards.pi5.mac), 'pi5'), first)
  })

  // serve.test.ts boots a machine by U-Boot until it is up.
  test('starts a kernel by U-Boot and iPXE, and takes only loaders by TFTP', async () => {
    const { kernel, initrd } = filesOf(first)
    const { mac } = boards.pi3
    const uboot = join(first.bootTree, 'u-boot.bin')
    const machine = await powerOn(network, {
      name: 'machine',
      mac,
      machine: arm64UbootAlone(uboot),
    })
    await machine.waitFor(/Open Source Network Boot Firmware/)
    await machine.waitFor(/http:\/\/.*boot\.ipxe.* ok/)
    await machine.waitFor(/netimage-demo: stage 1/)
    await machine.powerOff()

    const sent = { tftp: new Set<string>(), http: new Set<string>() }
    for (const { text } of server.program.lines()) {
      const { success, output } = v.safeParse(v.pipe(v.string(), v.parseJson(), sentSchema), text)
      if (success && output.machine === mac) sent[output.event.kind].add(output.event.file)
    }
    assert.deepEqual(sent, {
      tftp: new Set(['ipxe-arm64.efi']),
      http: new Set(['/boot.ipxe', `/${kernel}`, `/${initrd}`]),
    })
    // U-Boot and iPXE ask DHCP again, and this is still one boot.
    const boots = await server.boots(mac)
    assert.equal(boots.length, 1, JSON.stringify(boots))
    assertBoot(boots[0], ['dhcp', 'loader', 'kernel', 'initrd'], false)
  })
})
