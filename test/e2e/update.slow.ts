// Machines that live through updates: they boot one image, and then another one with another kernel,
// and keep what is their own.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import * as v from 'valibot'
import type { DemoSystemName } from '../../demo/system/build.ts'
import type { DemoImage } from './support/demo-image.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { buildGeneration, kernelOf, type Kind } from './support/generations.ts'
import {
  powerOn,
  powerOnUntil,
  restarting,
  x86Bios,
  x86Uefi,
  type PoweredMachine,
} from './support/machines.ts'
import { openNetwork, type Network } from './support/network.ts'
import { startOwnServer, type OwnServer } from './support/own-server.ts'
import { findProgram } from './support/packages.ts'
import { assertRuns, assertStoreIsWhole, makeOwnFiles, showOwnFiles } from './support/own-files.ts'
import { assertStartsSystem, boards, loadPi } from './support/raspberry-pi.ts'
import { openShell, type Shell } from './support/shell.ts'

const pc = '52:54:00:00:00:01'
const [x86, arm64] = ['x86_64-linux', 'aarch64-linux'] as const

const statusSchema = v.object({
  machines: v.array(
    v.object({
      machine: v.string(),
      generations: v.array(
        v.object({
          number: v.number(),
          toplevel: v.string(),
          verdict: v.picklist(['trial', 'good', 'bad']),
          reason: v.optional(v.string()),
        }),
      ),
    }),
  ),
})

suite('a site', { concurrency: 2 }, () => {
  const cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-update-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  // The user of the server adds images from there.
  chmodSync(directory, 0o755)
  let firmware: Firmware
  let network: Network
  let server: OwnServer
  const images = new Map<string, DemoImage>()
  const imageOf = (kind: Kind, system: DemoSystemName) => {
    const image = images.get(`${kind} ${system}`)
    assert.ok(image)
    return image
  }

  before(async () => {
    firmware = await fetchFirmware()
    for (const [system, kinds] of [
      [x86, ['first', 'update']],
      [arm64, ['first', 'update']],
    ] as const) {
      for (const kind of kinds) {
        const image = await buildGeneration(kind, system, directory, firmware)
        images.set(`${kind} ${system}`, image)
      }
    }
    network = cleanup.use(await openNetwork('update'))
    // A machine that nobody has assigned an image gets the one for its processor.
    const first = [imageOf('first', x86), imageOf('first', arm64)]
    server = await startOwnServer(
      network,
      first.map(({ image }) => image),
      'full',
    )
    for (const image of images.values()) {
      if (!first.includes(image)) await server.site('add', image.image)
    }
  })
  after(() => cleanup.disposeAsync())

  async function assign(machine: string, kind: Kind, system: DemoSystemName): Promise<void> {
    await server.site('assign', machine, imageOf(kind, system).manifest.options.rootDirectoryName)
  }

  /** The verdict of the machine's newest generation with the system. */
  async function verdictOf(machine: string, toplevel: string) {
    const status = v.parse(statusSchema, await server.site('status', machine))
    const generations = status.machines.find((each) => each.machine === machine)?.generations
    const found = generations?.findLast((generation) => generation.toplevel === toplevel)
    assert.ok(found, JSON.stringify(status))
    return found
  }

  suite('with a PC', { concurrency: 1 }, () => {
    let machine: PoweredMachine
    let shell: Shell
    let own: string[]

    async function switchOn(name: string): Promise<void> {
      machine = await powerOn(network, { name, mac: pc, machine: restarting(x86Bios()) })
      shell = await openShell(machine)
    }

    /** UEFI gives up a download if this computer is busy. */
    async function switchOnByUefi(name: string): Promise<void> {
      const request = { name, mac: pc, machine: x86Uefi(firmware, 'pxe') }
      const powered = await powerOnUntil(network, request, (each) => openShell(each))
      machine = powered.machine
      shell = powered.reached
    }

    async function restart(): Promise<void> {
      const printed = machine.lines().length
      shell.start('reboot')
      shell = await openShell(machine, printed)
    }

    test('updates a machine that boots by iPXE to another kernel', async () => {
      const [first, update] = [imageOf('first', x86), imageOf('update', x86)]
      assert.notEqual(kernelOf(first), kernelOf(update))
      await switchOn('ipxe')
      await assertRuns(shell, first)
      own = await makeOwnFiles(shell)
      await assertStoreIsWhole(shell, first)
      await server.site('good', pc)

      await assign(pc, 'update', x86)
      await restart()
      await assertRuns(shell, update)
      assert.deepEqual(await showOwnFiles(shell), own)
      await assertStoreIsWhole(shell, update)
      assert.equal((await verdictOf(pc, update.manifest.system.toplevel)).verdict, 'trial')
      await server.site('good', pc)
      await machine.powerOff()
    })

    test('gives a machine that boots by UEFI its generation before', async () => {
      const first = imageOf('first', x86)
      await server.site('rollback', pc)
      await switchOnByUefi('uefi')
      await assertRuns(shell, first)
      assert.deepEqual(await showOwnFiles(shell), own)
      await assertStoreIsWhole(shell, first)
      await machine.powerOff()
    })
  })

  test('updates a Raspberry Pi, which keeps its files', async () => {
    const [first, update] = [imageOf('first', arm64), imageOf('update', arm64)]
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
    await assign(mac, 'update', arm64)
    assertStartsSystem('pi4', await loadPi(pi, 'pi4'), update)
    await assertRoot(update)
    assert.equal(await read('own'), 'of the Pi')
  })
})
