// Boards that live through updates: they boot one image, and then another one with another kernel, and
// back. They keep what is their own.

import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { kernelOf } from './support/generations.ts'
import { arm64Uboot, powerOn } from './support/machines.ts'
import { assertRuns, assertStoreIsWhole, makeOwnFiles, showOwnFiles } from './support/own-files.ts'
import { openShell } from './support/shell.ts'
import { openUpdatedSite, type UpdatedSite } from './support/updated-site.ts'

suite('a site with boards', { concurrency: 2 }, () => {
  let firmware: Firmware
  let site: UpdatedSite

  before(async () => {
    firmware = await fetchFirmware()
    site = await openUpdatedSite('update-boards', 'aarch64-linux', ['update'], firmware)
  })
  after(() => site[Symbol.asyncDispose]())

  test('updates a board that boots by U-Boot to another kernel, and back', async () => {
    // Debian's U-Boot for QEMU always uses this hardware address.
    const mac = '52:52:52:52:52:52'
    const { network, server } = site
    const [first, update] = [site.imageOf('first'), site.imageOf('update')]
    assert.notEqual(kernelOf(first), kernelOf(update))
    const switchOn = async (name: string) => {
      const machine = await powerOn(network, { name, mac, machine: arm64Uboot(firmware) })
      return { machine, shell: await openShell(machine) }
    }

    const before = await switchOn('uboot')
    await assertRuns(before.shell, first)
    const own = await makeOwnFiles(before.shell)
    await before.machine.powerOff()
    await server.site('good', mac)

    await site.assign(mac, 'update')
    const updated = await switchOn('uboot-updated')
    await assertRuns(updated.shell, update)
    assert.deepEqual(await showOwnFiles(updated.shell), own)
    await updated.machine.powerOff()

    await server.site('rollback', mac)
    const back = await switchOn('uboot-back')
    await assertRuns(back.shell, first)
    assert.deepEqual(await showOwnFiles(back.shell), own)
    await assertStoreIsWhole(back.shell, first)
    await back.machine.powerOff()
  })
})
