// The ways to serve a root: the server, with the configuration that netimage writes for it, and the
// version of NFS in the system's fstab.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { dnsmasqConfiguration } from './configuration.ts'
import { startDnsmasq } from './daemons.ts'
import { buildBootableSystem, buildDemoImage, type DemoImage } from './demo-image.ts'
import { startKernelNfsServer } from './kernel-nfs-server.ts'
import { powerOn, userModeLinux, type PoweredMachine } from './machines.ts'
import { openNetwork, type Network } from './network.ts'
import { configure, startRootServer } from './servers.ts'

export type RootWay = {
  server: 'ganesha' | 'kernel'
  version: '3' | '4.0' | '4.2'
}

const path = '/srv/alpha'

/** Boots a machine until it is up, and checks that the owners of its files are numbers. */
export async function bootFrom(way: RootWay, context: TestContext): Promise<void> {
  const name = `root-${way.server}-${way.version}`
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), `netimage-${name}-`))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const network = cleanup.use(await openNetwork(name))

  const address = way.server === 'kernel' ? '10.66.0.2' : network.server
  const device = `${address}:${path}`
  const demo = await buildBootableSystem('x86_64-linux', {
    rootDevice: device,
    rootOptions: `vers=${way.version},proto=tcp${way.version === '3' ? ',nolock' : ''}`,
  })
  const image = await buildDemoImage(demo, join(directory, 'image'), {
    boot: [],
    options: { nfsRoot: `${device},v${way.version}` },
  })
  await startDnsmasq(network, dnsmasqConfiguration(network))
  if (way.server === 'ganesha') await startRootServer(network, image.image)
  else await startKernelServer(network, address, image)

  const [entry] = image.manifest.system.entries
  assert.ok(entry && demo.uml)
  const kernelLine = `init=${entry.init} loglevel=4 netimage.onfail=poweroff:1`
  const machine = await powerOn(network, {
    name: 'machine',
    mac: '52:54:00:00:00:01',
    machine: userModeLinux({ ...demo.uml, kernelLine }),
  })
  const up = await machine.waitFor(/netimage-demo: up/)
  const said = textOf(machine)
  assert.ok(said.includes('netimage-demo: registered'), said.join('\n'))
  const mounted = said.find((line) => line.startsWith('netimage-demo: mount ')) ?? ''
  assert.match(mounted, new RegExp(`mount ${device} / nfs4? rw,.*vers=${way.version}[, ]`))
  // Owners must be numbers, because server and machine have different names for them.
  await machine.waitFor(/# ?$/)
  machine.type('touch /etc/x; chown 33:33 /etc/x; stat -c "%n is of %u:%g" /nix/store /etc/x\r')
  await machine.waitFor(/^\/nix\/store is of 0:30000$/)
  await machine.waitFor(/^\/etc\/x is of 33:33$/)
  await machine.powerOff()
  context.diagnostic(`${name}: up ${up.seconds.toFixed(1)} seconds after power-on`)
}

async function startKernelServer(
  network: Network,
  address: string,
  { image, rootTree }: DemoImage,
): Promise<void> {
  const exports = await configure(network, 'nfs-exports', image)
  await startKernelNfsServer(network, { address: `${address}/24`, rootTree, path, exports })
}

function textOf(machine: PoweredMachine): string[] {
  return machine.lines().map(({ text }) => text)
}
