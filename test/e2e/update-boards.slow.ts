// Boards that live through updates: their loaders get one image, and then another one with another
// kernel. A Raspberry Pi keeps its files, and goes back.

import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { findProgram } from '../support/packages.ts'
import type { DemoImage } from './support/demo-image.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { kernelOf } from './support/generations.ts'
import { arm64Uboot, powerOn } from './support/machines.ts'
import { assertStartsSystem, boards, loadPi } from './support/raspberry-pi.ts'
import { openUpdatedSite, type UpdatedSite } from './support/updated-site.ts'

suite('a site with boards', { concurrency: 2 }, () => {
  let firmware: Firmware
  let site: UpdatedSite

  before(async () => {
    firmware = await fetchFirmware()
    const [arm64, x86] = ['aarch64-linux', 'x86_64-linux'] as const
    site = await openUpdatedSite('update-boards', arm64, ['update'], firmware, { others: [x86] })
  })
  after(() => site[Symbol.asyncDispose]())

  test('gives U-Boot the other kernel after an update', async () => {
    // Debian's U-Boot for QEMU always uses this hardware address.
    const mac = '52:52:52:52:52:52'
    const { network, server } = site
    const [first, update] = [site.imageOf('first'), site.imageOf('update')]
    assert.notEqual(kernelOf(first), kernelOf(update))
    // serve.test.ts boots such a board until the system is up.
    const fetched = async (name: string) => {
      const machine = await powerOn(network, { name, mac, machine: arm64Uboot(firmware) })
      const { text } = await machine.waitFor(/^Retrieving file: nixos\/\S+-Image$/)
      await machine.powerOff()
      return text
    }

    assert.ok((await fetched('uboot')).endsWith(`-linux-${kernelOf(first)}-Image`))
    await server.site('good', mac)
    await site.assign(mac, 'update')
    assert.ok((await fetched('uboot-updated')).endsWith(`-linux-${kernelOf(update)}-Image`))
  })

  test('updates a Raspberry Pi, which keeps its files, and lets it go back', async () => {
    const { network, server } = site
    const [first, update] = [site.imageOf('first'), site.imageOf('update')]
    const { mac } = boards.pi4
    const pi = await network.addHost(mac)
    const mine = join(network.directory, 'mine')
    writeFileSync(mine, 'of the Pi')
    // A client of NFS stands for its kernel.
    const url = (name: string) => `nfs://${network.server}/srv/alpha/${name}?version=3`
    const read = async (name: string) => {
      const copy = join(network.directory, name)
      await pi.run([findProgram('nfs-cp'), url(name), copy])
      const text = readFileSync(copy, 'utf8')
      // nfs-cp does not write over a file.
      rmSync(copy)
      return text
    }
    const registration = 'nix-path-registration'
    const assertRoot = async ({ rootTree }: DemoImage) =>
      assert.equal(await read(registration), readFileSync(join(rootTree, registration), 'utf8'))

    assertStartsSystem('pi4', await loadPi(pi, 'pi4'), first)
    await assertRoot(first)
    await pi.run([findProgram('nfs-cp'), mine, url('own')])
    await server.site('good', mac)
    await site.assign(mac, 'update')
    assertStartsSystem('pi4', await loadPi(pi, 'pi4'), update)
    await assertRoot(update)
    await server.site('rollback', mac)
    assertStartsSystem('pi4', await loadPi(pi, 'pi4'), first)
    await assertRoot(first)
    assert.equal(await read('own'), 'of the Pi')
  })
})
