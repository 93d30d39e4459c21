// A PC that lives through updates: it boots one image, and then another one with another kernel, and
// keeps what is its own. A generation that does not come up, or is not good, is left again.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { waitUntil } from '../support/waiting.ts'
import { applyGroup } from './support/apply-group.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { kernelOf } from './support/generations.ts'
import { startHostilePublisher } from './support/hostile-publisher.ts'
import {
  powerOn,
  powerOnUntil,
  restarting,
  x86Bios,
  x86Uefi,
  type PoweredMachine,
} from './support/machines.ts'
import { addNetworkBooted } from './support/network-booted-uml.ts'
import {
  assertRuns,
  assertStoreIsWhole,
  buildInMachine,
  failsCheck,
  makeOwnFiles,
  showOwnFiles,
} from './support/own-files.ts'
import { openShell, type Shell } from './support/shell.ts'
import { openUpdatedSite, type UpdatedSite } from './support/updated-site.ts'

const mac = '52:54:00:00:00:01'
const noDriver = /no root: this machine has no network interface that the kernel has a driver for/

suite('a site with a PC', { concurrency: 1 }, () => {
  let firmware: Firmware
  let site: UpdatedSite
  let machine: PoweredMachine
  let shell: Shell
  let own: string[]
  /** The system that the machine has built. */
  let built: string

  before(async () => {
    firmware = await fetchFirmware()
    const kinds = ['update', 'driverless'] as const
    // update-boards.slow.ts has a server of one process.
    site = await openUpdatedSite('update', 'x86_64-linux', kinds, firmware, { workers: 2 })
  })
  after(() => site[Symbol.asyncDispose]())

  async function switchOn(name: string): Promise<void> {
    machine = await powerOn(site.network, { name, mac, machine: restarting(x86Bios()) })
  }

  async function restart(): Promise<void> {
    const printed = machine.lines().length
    shell.start('reboot')
    shell = await openShell(machine, printed)
  }

  test('boots by iPXE beside a machine that publishes what is no system', async () => {
    const { network } = site
    const hostile = await startHostilePublisher(network, {
      secret: join(network.directory, 'state', 'site.sqlite'),
      others: site.imageOf('update').manifest.system.toplevel,
    })
    await switchOn('ipxe')
    shell = await openShell(machine)
    await assertRuns(shell, site.imageOf('first'))
    const answers = await hostile.end()
    const reasons = {
      'no-json': /the request is not JSON/,
      'out-of-the-store': /"\/nix\/store\/\.\.\/\.\.\/etc\/shadow" is not a store path/,
      'of-another': /-nixos-system-netimage-demo-\S+ is not in the root of this machine/,
      'link-out': /names the file \S+\/kernel, which does not exist/,
      fifo: /its type is fifo/,
      directory: /names the file \S+\/kernel, which does not exist/,
      'large-initrd': /are more than 1073741824 bytes/,
      last: /are more than 1073741824 bytes/,
    }
    for (const [name, reason] of Object.entries(reasons)) {
      assert.match(answers.get(name) ?? '', reason, name)
    }
  })

  test('updates to another kernel', async () => {
    const [first, update] = [site.imageOf('first'), site.imageOf('update')]
    assert.notEqual(kernelOf(first), kernelOf(update))
    own = await makeOwnFiles(shell)
    // failing-boots.slow.ts lets Nix verify the store of a first image.
    await site.server.site('good', mac)

    await site.assign(mac, 'update')
    await restart()
    await assertRuns(shell, update)
    assert.deepEqual(await showOwnFiles(shell), own)
    const { toplevel } = update.manifest.system
    assert.equal((await site.generationOf(mac, toplevel)).verdict, 'trial')
    await site.server.site('good', mac)
  })

  test('halts a roll-out whose image has no driver for the network, after three tries, and goes back by itself', async () => {
    const { network, server } = site
    const driverless = site.imageOf('driverless')
    const others = await Promise.all(
      [8, 9].map(async (number) => {
        const other = { name: `other-${number}`, mac: `52:54:00:00:00:0${number}` }
        const firmware = await addNetworkBooted(network, other)
        await firmware.load()
        await server.site('good', other.mac)
        return { ...other, firmware }
      }),
    )
    await server.site('rollback', mac)
    const printed = machine.lines().length
    const applied = applyGroup(network, server, {
      image: driverless,
      machines: [{ name: 'pc', mac }, ...others],
      settings: ['waves = [["pc"], "rest"]'],
    })
    await waitUntil('the wave has begun', async () => {
      const { generations } = await site.statusOf(mac)
      return generations.at(-1)?.toplevel === driverless.manifest.system.toplevel
    })
    // Nobody touches the machine from here until it is up.
    const restarted = restart()
    await machine.waitFor(noDriver, printed)
    // If both started again within this minute, that would be a power cut.
    await others[0]?.firmware.load()
    await restarted
    const said = machine.lines().slice(printed)
    assert.equal(said.filter(({ text }) => noDriver.test(text)).length, 3)
    assert.equal(said.filter(({ text }) => /Kernel panic/.test(text)).length, 3)
    await assertRuns(shell, site.imageOf('first'))
    assert.deepEqual(await showOwnFiles(shell), own)
    await applied.waitFor(/^roll-out 1 of lab is halted: .* is bad; wave 1 of 2: 1 bad, 2 pending$/)
    await applied.waitFor(/^status 3$/)
    const { verdict, failures } = await site.generationOf(mac, driverless.manifest.system.toplevel)
    assert.deepEqual([verdict, failures], ['bad', 3])
    await assert.rejects(site.assign(mac, 'driverless'), /bad-generation/)
    // Nobody else was sent a byte of it.
    const initrd = /[^/]+-initrd-/.exec(driverless.manifest.system.entries[0]?.initrd ?? '')?.[0]
    assert.ok(initrd !== undefined)
    const fetched = server.program.lines().filter(({ text }) => text.includes(initrd))
    assert.ok(fetched.length > 0)
    for (const { text } of fetched) assert.ok(text.includes(`"machine":"${mac}"`), text)
  })

  test('boots a system that the machine has built and published', async () => {
    const update = site.imageOf('update')
    built = await buildInMachine(shell, update.manifest.system.toplevel)
    await shell.run(`nix-env --profile /nix/var/nix/profiles/system --set ${built}`)
    const said = await shell.run(`${built}/bin/switch-to-configuration boot`)
    assert.match(said.join('\n'), /The server made generation 4 of this machine/)
    await machine.powerOff()
    // The power is cut when the kernel starts.
    for (const name of ['cut', 'cut-again']) {
      await switchOn(name)
      await machine.waitFor(/Probing EDD|netimage-demo: stage 1/)
      await machine.powerOff()
    }
    await switchOn('published')
    shell = await openShell(machine)
    await assertRuns(shell, update, built)
    const [line = ''] = await shell.run('cat /proc/cmdline')
    assert.ok(line.split(' ').includes(failsCheck), line)
    assert.deepEqual(await showOwnFiles(shell), own)
    const { attempts } = await site.statusOf(mac)
    assert.match(attempts.at(-1)?.trouble ?? '', /demo-check\.service/)
    assert.equal((await site.generationOf(mac, built)).failures, 2)
  })

  test('boots the last good generation if a check fails, after its store was cleaned, and refuses what was bad', async () => {
    const first = site.imageOf('first')
    const { toplevel } = first.manifest.system
    await shell.run('nix-collect-garbage --delete-old && sync')
    await assert.rejects(shell.run(`test -e ${toplevel}`), 'the machine has removed it')
    await machine.powerOff()
    // UEFI gives up a download if this computer is busy.
    const request = { name: 'uefi', mac, machine: x86Uefi(firmware, 'pxe') }
    const powered = await powerOnUntil(site.network, request, (each) => openShell(each))
    shell = powered.reached
    await assertRuns(shell, first)
    assert.deepEqual(await showOwnFiles(shell), own)
    await assertStoreIsWhole(shell, first)
    const { verdict, reason } = await site.generationOf(mac, built)
    assert.equal(verdict, 'bad')
    // If this computer is very busy, the deadline of the generation passes before it has failed again.
    assert.match(reason ?? '', /\(boot-complete\.target was not reached: demo-check\.service\)/)
    await assert.rejects(
      shell.run(`${built}/bin/switch-to-configuration boot`),
      /it was bad on this machine as generation 4 \(.*demo-check\.service/,
    )
    await powered.machine.powerOff()
  })
})
