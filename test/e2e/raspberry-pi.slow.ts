// Raspberry Pis with other DHCP servers, and with their own folder in the boot tree. One test also
// boots the files that a loader has fetched.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { ganeshaConfiguration } from './support/configuration.ts'
import { startGanesha } from './support/daemons.ts'
import { copyRootTree, rootDevice, type DemoImage } from './support/demo-image.ts'
import { powerOn, raspberryPi3 } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { modelNames } from './support/pi/models.ts'
import {
  assertStartsSystem,
  boards,
  bootPi,
  buildPiImage,
  powerOnPi,
} from './support/raspberry-pi.ts'
import { startLoaderServers } from './support/servers.ts'

suite('Raspberry Pi', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pi-test-'))
  let image: DemoImage

  before(async () => {
    image = await buildPiImage(join(directory, 'image'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  for (const name of modelNames) {
    test(`${name} boots by DHCP from proxy`, async () => {
      assertStartsSystem(name, await bootPi(name, image.image, 'proxy'), image)
    })
  }

  for (const name of ['pi3', 'pi5'] as const) {
    test(`${name} gets its kernel, initrd, kernel line and device tree`, async () => {
      const report = await bootPi(name, image.image)
      assert.equal(report.prefix, '')
      assertStartsSystem(name, report, image)
    })
  }

  // All models send the same options of DHCP, and search for their folder in the same way.
  test('a pi5 boots by DHCP from kea', async () => {
    assertStartsSystem('pi5', await bootPi('pi5', image.image, 'kea'), image)
  })

  test('a pi3 prefers the folder of its serial number', async () => {
    const copy = join(directory, 'image-for-serial')
    cpSync(image.image, copy, { recursive: true, verbatimSymlinks: true })
    const { serial } = boards.pi3
    const bootTree = join(copy, 'net-image/boot')
    mkdirSync(join(bootTree, serial))
    for (const file of readdirSync(bootTree)) {
      // The boot ROM of a Pi 3 fetches this file, and does not use folders.
      if (file !== serial && file !== 'bootcode.bin') {
        renameSync(join(bootTree, file), join(bootTree, serial, file))
      }
    }
    const report = await bootPi('pi3', copy)
    assert.equal(report.prefix, `${serial}/`)
    assertStartsSystem('pi3', report, image)
  })

  test('the kernel that a pi3 has fetched mounts the root and starts its init', async () => {
    const whole = await buildPiImage(join(directory, 'whole'), { boots: true })
    await using network = await openNetwork('pi3-kernel')
    await startLoaderServers(network, whole.image)
    const root = await copyRootTree(whole, join(directory, 'root'))
    const [, mounted = ''] = rootDevice.split(':')
    await startGanesha(network, ganeshaConfiguration({ [mounted]: root }))

    const { kernel, initrd, deviceTree, kernelLine } = await powerOnPi(network, 'pi3')
    assert.ok(kernel && initrd[0] && deviceTree && kernelLine !== undefined)
    const machine = await powerOn(network, {
      name: 'machine',
      mac: '52:54:00:00:00:03',
      machine: raspberryPi3({
        kernel: join(whole.bootTree, kernel.path),
        initrd: join(whole.bootTree, initrd[0].path),
        deviceTree: join(whole.bootTree, deviceTree.path),
        kernelLine,
      }),
    })
    await machine.waitFor(/netimage-demo: stage 2/)
    await machine.powerOff()
  })
})
