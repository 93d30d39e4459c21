// Machines that ask our DHCP server from power-on, as far as their boot file: what comes after it
// is shown elsewhere.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dnsmasqConfiguration } from './configuration.ts'
import { startDnsmasq, startHttpServer } from './daemons.ts'
import { fetchFirmware, type Firmware } from './firmware.ts'
import { powerOn, type Machine } from './machines.ts'
import { openNetwork, type Network } from './network.ts'
import { startOwnDhcp, startTftp } from './own-dhcp.ts'

export type LoaderWay = {
  name: string
  machine: (firmware: Firmware) => Machine
  mode: 'proxy' | 'full'
  /** Whether the boot tree is served over HTTP as well. */
  http?: boolean
  /** Files of the boot tree, beside iPXE's script. */
  files?: (firmware: Firmware) => Record<string, string>
  /** What the console shows, or else the server of files, once the machine asks for its file. */
  asks: { console: RegExp } | { files: RegExp }
}

/** Generous, because other things may run on this machine. */
const seconds = 240
const mac = '52:54:00:00:00:01'

export async function bootByOwnDhcp(way: LoaderWay): Promise<void> {
  const firmware = await fetchFirmware()
  await using network = await openNetwork(`own-dhcp-${way.name}`)
  const tree = join(network.directory, 'tree')
  mkdirSync(tree)
  const files = way.files?.(firmware) ?? {}
  for (const [name, from] of Object.entries(files)) copyFileSync(from, join(tree, name))
  writeFileSync(join(tree, 'boot.ipxe'), '#!ipxe\necho reached the script\nsleep 600\n')

  if (way.mode === 'proxy') await startRouter(network)
  const http = way.http === true ? { http: `http://${network.server}/` } : {}
  const httpServer = way.http === true ? await startHttpServer(network, tree) : undefined
  await startOwnDhcp(network, {
    mode: way.mode,
    files: ['boot.ipxe', ...Object.keys(files)],
    ...http,
  })
  const tftp = await startTftp(network, tree)
  const machine = await powerOn(network, { name: 'machine', mac, machine: way.machine(firmware) })
  const server = httpServer ?? tftp
  const asked =
    'files' in way.asks
      ? server.waitFor(way.asks.files, seconds)
      : machine.waitFor(way.asks.console, seconds)
  // Where the machine gives up it says why.
  await Promise.race([asked, machine.waitFor(/^this is never printed$/, seconds)])
}

/** As in a home: what gives the addresses knows nothing of booting. */
export async function startRouter(network: Network): Promise<void> {
  const router = await network.addHost('02:00:00:00:00:01')
  await router.run(['ip', 'address', 'add', '10.66.0.2/24', 'dev', 'eth0'])
  const leases = 'dhcp-leasefile=/run/router.leases'
  await startDnsmasq(router, dnsmasqConfiguration({ bridge: 'eth0' }, [leases]))
}
