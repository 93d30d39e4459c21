// Machines that ask our DHCP server after power-on, until they fetch the file that it names. Other
// tests show the rest of a boot.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dnsmasqConfiguration } from './configuration.ts'
import { startDnsmasq, startHttpServer } from './daemons.ts'
import { fetchFirmware, type Firmware } from './firmware.ts'
import { powerOnUntil, type Machine } from './machines.ts'
import { openNetwork, type Network } from './network.ts'
import { startOwnDhcp, startTftp } from './own-dhcp.ts'

export type LoaderWay = {
  name: string
  machine: (firmware: Firmware) => Machine
  mode: 'proxy' | 'full'
  /** Whether the boot tree is also served over HTTP. */
  http?: boolean
  /** A loader of iPXE in the boot tree, with its name there. */
  loader?: { file: string; from: string }
}

const mac = '52:54:00:00:00:01'
const script = /reached the script/

export async function bootByOwnDhcp(way: LoaderWay): Promise<void> {
  const firmware = await fetchFirmware()
  await using network = await openNetwork(`own-dhcp-${way.name}`)
  const tree = join(network.directory, 'tree')
  mkdirSync(tree)
  const files = ['boot.ipxe']
  if (way.loader) {
    const { file, from } = way.loader
    copyFileSync(join(firmware.ipxe, from), join(tree, file))
    files.push(file)
  }
  writeFileSync(join(tree, 'boot.ipxe'), '#!ipxe\necho reached the script\nsleep 600\n')

  if (way.mode === 'proxy') await startRouter(network)
  const http = way.http === true ? { http: `http://${network.server}/` } : {}
  if (way.http === true) await startHttpServer(network, tree)
  await startOwnDhcp(network, { mode: way.mode, files, ...http })
  await startTftp(network, tree)
  const request = { name: 'machine', mac, machine: way.machine(firmware) }
  await powerOnUntil(network, request, (machine) => machine.waitFor(script))
}

/** A router as in a home: it gives addresses, but no boot information. */
export async function startRouter(network: Network): Promise<void> {
  const router = await network.addHost('02:00:00:00:00:01')
  await router.run(['ip', 'address', 'add', '10.66.0.2/24', 'dev', 'eth0'])
  const leases = 'dhcp-leasefile=/run/router.leases'
  await startDnsmasq(router, dnsmasqConfiguration({ bridge: 'eth0' }, [leases]))
}
