// A packet can have the source port 0, and an answer to this port is impossible.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { ipxeDiscover } from '../protocols/dhcp/captured.ts'
import { callRecord } from '../protocols/support/rpc-client.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { findProgram } from '../support/packages.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork, type Network } from './support/network.ts'
import { startOwnServer } from './support/own-server.ts'

const perl = findProgram('perl')
const program = join(import.meta.dirname, 'support/from-port-zero.pl')

const nullCall = (rpcProgram: number) => callRecord({}, rpcProgram, 0).subarray(4)
const readRequest = Buffer.from('\0\x01boot.ipxe\0octet\0')
const packets = [ipxeDiscover, readRequest, nullCall(100000), nullCall(100003), nullCall(100005)]

suite('a packet from port 0', () => {
  for (const dhcp of ['full', 'proxy'] as const) {
    test(`does not end a server, on any of its ports (--dhcp ${dhcp})`, async (context) => {
      const workspace = makeWorkspace(`port-zero-${dhcp}`)
      context.after(() => workspace.remove())
      const image = await buildServedImage(workspace, '10.66.0.1:/srv/test,v3')
      await using network = await openNetwork(`port-zero-${dhcp}`)
      const host = await network.addHost('52:54:00:00:00:07')
      await host.run(['ip', 'address', 'add', '10.66.0.7/24', 'dev', 'eth0'])
      const before = await udpPorts(network)
      const server = await startOwnServer(network, [image], dhcp, { workers: 2 })
      // These include the port that a full server uses to search for users of addresses.
      const ports = [...(await udpPorts(network))].filter((port) => !before.has(port))
      for (const port of [67, 69, 111, 2049]) assert.ok(ports.includes(port), `port ${port}`)
      const all = ports.flatMap((port) => packets.map((packet) => `${port}=${hexOf(packet)}`))
      for (const to of [network.server, '255.255.255.255']) {
        await host.run(['ip', 'route', 'replace', '255.255.255.255', 'dev', 'eth0'])
        await host.run([perl, program, to, ...all])
      }
      // By UDP, so that the call comes after the other packets.
      const rpcinfo = [findProgram('rpcinfo'), '-T', 'udp', network.server]
      assert.match(await host.run([...rpcinfo, '100000', '2']), /ready and waiting/)
      const curl = [findProgram('curl'), '-sf', '-m', '900']
      const script = await host.run([...curl, `tftp://${network.server}/boot.ipxe`])
      assert.match(script, /^#!ipxe/)
      assert.ok(server.program.isRunning())
      assert.ok(!server.program.lines().some(({ text }) => text.startsWith('error:')))
    })
  }
})

/** The UDP ports that are bound in the network of the server. */
async function udpPorts(network: Network): Promise<Set<number>> {
  const lists = await network.run(['cat', '/proc/net/udp', '/proc/net/udp6'])
  const ports = [...lists.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) /gm)]
  return new Set(ports.map(([, hex = '']) => Number.parseInt(hex, 16)))
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
