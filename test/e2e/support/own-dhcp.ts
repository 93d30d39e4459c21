// Our own DHCP server in a network, and other programs' clients.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { findProgram } from '../../support/packages.ts'
import { routerAdvertisements } from './configuration.ts'
import { startDnsmasq } from './daemons.ts'
import type { Host, Network } from './network.ts'
import type { Program } from './program.ts'
import { waitUntil } from '../../support/waiting.ts'

export type OwnDhcpSettings = {
  mode: 'proxy' | 'full'
  interface?: string
  address?: string
  /** The files of the boot tree. */
  files?: readonly string[]
  /** The URL of the boot tree. */
  http?: string
  allow?: readonly string[]
  reservations?: Record<string, string>
  range?: { first: string; last: string }
  told?: { routers: readonly string[]; nameServers: readonly string[]; domain?: string }
  /** Default: true, which skips the search for other servers. */
  force?: boolean
  leasesFile?: string
}

const program = join(import.meta.dirname, '../../protocols/support/dhcp-server-program.ts')

/** @returns the server, without waiting for its start */
export function launchOwnDhcp(network: Network, settings: OwnDhcpSettings): Program {
  const complete = {
    interface: network.bridge,
    address: network.server,
    network: { address: '10.66.0.0', prefix: 24, netmask: '255.255.255.0' },
    range: { first: '10.66.0.100', last: '10.66.0.199' },
    told: { routers: [], nameServers: [] },
    leasesFile: join(network.directory, 'leases.sqlite'),
    force: true,
    ...settings,
  }
  return network.start('dhcp', [process.execPath, program, JSON.stringify(complete)])
}

export async function startOwnDhcp(network: Network, settings: OwnDhcpSettings): Promise<Program> {
  const server = launchOwnDhcp(network, settings)
  await server.waitFor(/^ready$/)
  return server
}

const eventSchema = v.object({
  mac: v.string(),
  proxy: v.boolean(),
  step: v.string(),
  address: v.optional(v.string()),
  architecture: v.optional(v.number()),
  userClass: v.optional(v.string()),
  vendorClass: v.optional(v.string()),
  bootFile: v.optional(v.string()),
  reason: v.optional(v.string()),
})

/** The server's events for a machine so far. */
export function eventsOf(server: Program, mac: string) {
  return server
    .lines()
    .filter(({ text }) => text.startsWith('{'))
    .map(({ text }) => v.parse(eventSchema, JSON.parse(text)))
    .filter((event) => event.mac === mac)
}

/**
 * Asks with busybox's udhcpc until it has an address. After an offer, udhcpc gives up if three of its
 * requests are lost, so it is started again.
 *
 * @returns the values for its script
 */
export async function udhcpc(
  host: Host,
  flags: readonly string[] = [],
): Promise<Record<string, string>> {
  let said = ''
  await waitUntil('udhcpc has an address', async () => {
    said = await runUdhcpc(host, 900, flags)
    return !isNone.test(said)
  })
  return Object.fromEntries(
    said.split('\n').flatMap((line) => {
      const at = line.indexOf('=')
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : []
    }),
  )
}

/** Asks a few times with busybox's udhcpc, and checks that no server answers. */
export async function udhcpcInVain(host: Host, flags: readonly string[] = []): Promise<void> {
  assert.match(await runUdhcpc(host, 4, flags), isNone)
}

const isNone = /^none$/m

async function runUdhcpc(host: Host, tries: number, flags: readonly string[]): Promise<string> {
  const script = join(host.directory, 'udhcpc-script')
  writeFileSync(script, '#!/bin/sh\n[ "$1" != bound ] || env\n', { mode: 0o755 })
  const limits = ['-q', '-n', '-t', String(tries), '-T', '1']
  const command = [findProgram('busybox'), 'udhcpc', '-i', 'eth0', '-f', ...limits, '-s', script]
  return await host.run(['sh', '-c', '"$@" || echo none', 'sh', ...command, ...flags])
}

/** Serves files with dnsmasq by TFTP only. */
export async function startTftp(network: Network, directory: string): Promise<Program> {
  const lines = ['port=0', `interface=${network.bridge}`, 'bind-interfaces', 'enable-tftp']
  const configuration = [...lines, `tftp-root=${directory}`, ...routerAdvertisements, '']
  return await startDnsmasq(network, configuration.join('\n'))
}
