// Machines that mount an image's root tree over NFS: the first boot, later boots, and a boot after
// a power cut. The machines get their kernels directly, without a loader. boot.test.ts shows the
// kernel and the initrd of the system itself.

import assert from 'node:assert/strict'
import { existsSync, lstatSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { verifyImage } from '../../src/index.ts'
import { dnsmasqConfiguration, ganeshaConfiguration } from './support/configuration.ts'
import { startDnsmasq, startGanesha } from './support/daemons.ts'
import {
  buildBootableSystem,
  buildDemoImage,
  copyRootTree,
  type DemoImage,
} from './support/demo-image.ts'
import { powerOn, userModeLinux, type PoweredMachine } from './support/machines.ts'
import { openNetwork, type Network } from './support/network.ts'

const macs = {
  alpha: '52:54:00:00:00:01',
  beta: '52:54:00:00:00:02',
  gamma: '52:54:00:00:00:03',
} as const
type MachineName = keyof typeof macs
const names = ['alpha', 'beta', 'gamma'] as const

suite('a root over NFS', () => {
  const cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-root-test-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  let image: DemoImage
  let network: Network

  before(async () => {
    const demo = await buildBootableSystem('x86_64-linux')
    image = await buildDemoImage(demo, join(directory, 'image'))
    const exports: Record<string, string> = {}
    for (const name of names) exports[`/srv/${name}`] = await copyRootTree(image, rootOf(name))
    network = cleanup.use(await openNetwork('root'))
    const hosts = names.map((name) => `dhcp-host=${macs[name]},${name}`)
    await startDnsmasq(network, dnsmasqConfiguration(network, hosts))
    await startGanesha(network, ganeshaConfiguration(exports))
  })
  after(() => cleanup.disposeAsync())

  /** The path of the machine's own root on this machine. */
  const rootOf = (name: MachineName, ...path: string[]) => join(directory, name, ...path)

  const isRegistered = (name: MachineName) =>
    existsSync(rootOf(name, 'nix/var/nix/netimage-registered'))

  async function boot(name: MachineName, words: string[]): Promise<PoweredMachine> {
    const { demo, manifest } = image
    const [entry] = manifest.system.entries
    assert.ok(entry && demo.uml)
    // The system was built with the root of alpha in its fstab.
    const root = name === 'alpha' ? [] : ['root=/dev/nfs', `nfsroot=${network.server}:/srv/${name}`]
    const line = [
      `init=${entry.init}`,
      'loglevel=4',
      'netimage.onfail=poweroff:1',
      ...root,
      ...words,
    ]
    const machine = userModeLinux({ ...demo.uml, kernelLine: line.join(' ') })
    return await powerOn(network, { name, mac: macs[name], machine })
  }

  /** Boots and powers off. @returns the lines of the console */
  async function bootOnce(name: MachineName, words: string[] = []): Promise<string[]> {
    const machine = await boot(name, [...words, 'demo.poweroff'])
    await machine.waitFor(/netimage-demo: up/)
    await machine.waitFor(/netimage-demo: power off/)
    await machine.waitForEnd()
    return machine.lines().flatMap(({ text }) => /netimage-demo: (.*)/.exec(text)?.[1] ?? [])
  }

  /** Boots, and lets Nix verify the store. */
  const bootAndVerify = (name: MachineName) => bootOnce(name, ['demo.verify'])

  function assertWhole(name: MachineName, said: string[]): void {
    const { system, closure } = image.manifest
    assert.ok(said.includes(`host ${name}`), said.join('\n'))
    assert.ok(said.includes(`system ${system.toplevel}`), said.join('\n'))
    assert.ok(said.includes(`verified ${closure.length} paths`), said.join('\n'))
    assert.ok(isRegistered(name))
    assert.ok(existsSync(rootOf(name, 'etc/NIXOS')))
    assert.ok(lstatSync(rootOf(name, 'nix/var/nix/profiles/system')).isSymbolicLink())
  }

  test('two machines boot from one image at once, each on its own root', async () => {
    const both = ['alpha', 'beta'] as const
    await Promise.all(
      both.map(async (name) => {
        const said = await bootAndVerify(name)
        assert.ok(said.includes('registered'), said.join('\n'))
        const mounted = said.find((line) => line.startsWith('mount '))
        assert.match(mounted ?? '', new RegExp(`^mount ${network.server}:/srv/${name} / nfs rw,`))
        assertWhole(name, said)
      }),
    )
    assert.equal(isRegistered('gamma'), false)
  })

  test('the second boot does not register again', async () => {
    const said = await bootOnce('alpha')
    assert.ok(said.includes('up'), said.join('\n'))
    assert.ok(!said.some((line) => line.startsWith('regist')), said.join('\n'))
  })

  // registration.slow.ts kills the registration at each of its steps.
  test('a boot recovers from a power cut while Nix created its database', async () => {
    const machine = await boot('gamma', ['demo.poweroff'])
    await appears(rootOf('gamma', 'nix/var/nix/db/db.sqlite-wal'), machine)
    await machine.powerOff()
    assert.equal(isRegistered('gamma'), false, machine.tail(10))

    const said = await bootAndVerify('gamma')
    assert.ok(said.includes('registered'), said.join('\n'))
    assertWhole('gamma', said)
  })

  test('the image itself has not changed', async () => {
    const { findings } = await verifyImage({ image: image.image })
    assert.deepEqual(findings, [])
  })
})

/** Resolves as soon as the machine has created the file. */
async function appears(file: string, machine: PoweredMachine): Promise<void> {
  while (machine.isRunning() && !lstatSync(file, { throwIfNoEntry: false })) await sleep(1)
}
