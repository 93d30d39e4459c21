// Servers for an image, with the configuration that netimage writes for them.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { netimage } from '../../support/netimage.ts'
import { dnsmasqConfiguration } from './configuration.ts'
import { startDnsmasq, startGanesha, startHttpServer, startKea, startTftpdHpa } from './daemons.ts'
import type { Network } from './network.ts'

/**
 * Who answers DHCP: dnsmasq, which has TFTP too; dnsmasq as a proxyDHCP server beside another that
 * gives the addresses; or Kea with tftpd-hpa beside it.
 */
export type DhcpServer = 'dnsmasq' | 'proxy' | 'kea'

export type ServerOptions = {
  dhcp?: DhcpServer
  /** TFTP by tftpd-hpa in dnsmasq's place. */
  tftpdHpa?: boolean
  /** The boot tree over HTTP as well: at the root of the server, or in its folder "boot". */
  http?: 'root' | 'folder'
  /** Lines for dnsmasq beyond those that netimage writes. */
  dnsmasq?: readonly string[]
}

/** Start what a loader needs: DHCP, TFTP and HTTP. */
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
  if (dhcp === 'proxy') await startOtherDhcpServer(network)
  const lines = await configure(network, 'dnsmasq', image, flags)
  const own = tftpdHpa ? lines.replace(/^enable-tftp$/m, '') : lines
  // Without a ping before each offer, which takes three seconds.
  await startDnsmasq(network, [own, 'no-ping', ...dnsmasq, ''].join('\n'))
}

/** Start NFS for the image's own root tree. */
export async function startRootServer(network: Network, image: string): Promise<void> {
  await startGanesha(network, await configure(network, 'ganesha', image))
}

/** As in a home: what gives the addresses knows nothing of booting. */
export async function startOtherDhcpServer(network: Network): Promise<void> {
  const router = await network.addHost('02:00:00:00:00:01')
  await router.run(['ip', 'address', 'add', '10.66.0.2/24', 'dev', 'eth0'])
  const leases = 'dhcp-leasefile=/run/router.leases'
  await startDnsmasq(router, dnsmasqConfiguration({ bridge: 'eth0' }, [leases]))
}

/** What `netimage servers` prints. */
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
