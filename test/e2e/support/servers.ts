// Servers for an image, with the configuration that netimage writes for them.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { netimage } from '../../support/netimage.ts'
import { dnsmasqConfiguration, routerAdvertisements } from './configuration.ts'
import { startDnsmasq, startGanesha, startHttpServer, startKea, startTftpdHpa } from './daemons.ts'
import type { Network } from './network.ts'

/**
 * The DHCP server: dnsmasq, also for TFTP; or dnsmasq as a proxyDHCP server beside a server that
 * gives the addresses; or Kea, with tftpd-hpa for TFTP.
 */
export type DhcpServer = 'dnsmasq' | 'proxy' | 'kea'

export type ServerOptions = {
  dhcp?: DhcpServer
  /** TFTP by tftpd-hpa instead of dnsmasq. */
  tftpdHpa?: boolean
  /** Also serves the boot tree over HTTP: at the root of the server, or in its folder "boot". */
  http?: 'root' | 'folder'
  /** Lines for dnsmasq, added to those that netimage writes. */
  dnsmasq?: readonly string[]
}

/** Starts the servers for a loader: DHCP, TFTP and HTTP. */
export async function startLoaderServers(
  network: Network,
  image: string,
  { dhcp = 'dnsmasq', tftpdHpa = dhcp === 'kea', http, dnsmasq = [] }: ServerOptions = {},
): Promise<void> {
  const trees = join(image, 'net-image')
  if (http !== undefined) {
    await startHttpServer(network, http === 'root' ? join(trees, 'boot') : trees)
  }
  const url = http === 'folder' ? [`http://${network.server}/boot`] : []
  const flags = [
    ...(dhcp === 'proxy' ? [] : ['--range', '10.66.0.100-10.66.0.199']),
    ...(http === undefined ? [] : ['--http', ...url]),
  ]
  if (tftpdHpa) await startTftpdHpa(network, await configure(network, 'tftpd-hpa', image))
  if (dhcp === 'kea') {
    await startKea(network, await configure(network, 'isc-kea', image, flags))
    return
  }
  if (dhcp === 'proxy') await startRouter(network, { gives: 'addresses' })
  const lines = await configure(network, 'dnsmasq', image, flags)
  const own = tftpdHpa ? lines.replace(/^enable-tftp$/m, '') : lines
  // Without a ping before each offer, which takes three seconds.
  await startDnsmasq(network, [own, 'no-ping', ...dnsmasq, ''].join('\n'))
}

/** Starts NFS for the image's own root tree. */
export async function startRootServer(network: Network, image: string): Promise<void> {
  await startGanesha(network, await configure(network, 'ganesha', image))
}

/**
 * A router as in a home, without boot information. It advertises itself over IPv6: without this,
 * iPXE waits for 15 seconds.
 *
 * @param gives whether it gives the addresses too
 */
export async function startRouter(
  network: Network,
  { gives }: { gives: 'addresses' | 'nothing' },
): Promise<void> {
  const router = await network.addHost('02:00:00:00:00:01')
  for (const address of ['10.66.0.2/24', 'fd66::2/64']) {
    await router.run(['ip', 'address', 'add', address, 'dev', 'eth0', 'nodad'])
  }
  const own = [...routerAdvertisements, 'dhcp-leasefile=/run/router.leases']
  const configuration = dnsmasqConfiguration({ bridge: 'eth0' }, own)
  const isAddresses = /^dhcp-range=10\..*\n/m
  await startDnsmasq(
    router,
    gives === 'addresses' ? configuration : configuration.replace(isAddresses, ''),
  )
}

/** The output of `netimage servers`. */
export async function configure(
  { bridge }: Network,
  server: string,
  image: string,
  flags: readonly string[] = [],
): Promise<string> {
  const run = await netimage(['servers', server, image, '--interface', bridge, ...flags])
  assert.equal(run.status, 0, run.stderr)
  return run.stdout
}
