// Changes of the served interface.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { openNetwork, type Network } from './support/network.ts'
import { startOwnDhcp, udhcpc, udhcpcInVain } from './support/own-dhcp.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { cli, workersFlag } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { makeWorkspace } from '../support/workspace.ts'

suite('an interface that goes away and comes back', { concurrency: 2 }, () => {
  const ways: Record<
    string,
    (
      network: Network,
      ip: (line: string) => Promise<string>,
      askInVain: () => Promise<void>,
    ) => unknown
  > = {
    'without its address': async ({ bridge }, ip) => {
      await ip(`address flush dev ${bridge}`)
      await ip(`address add 10.66.0.1/24 broadcast + dev ${bridge}`)
    },
    // The same happens if a USB card is unplugged.
    'as a new interface with the same name': async ({ bridge }, ip, askInVain) => {
      await ip(`link delete ${bridge}`)
      await ip(`link add ${bridge} type bridge`)
      await ip(`link set ${bridge} up`)
      await ip(`link set veth0 master ${bridge}`)
      // The address is set later, as by a network manager. Until then a machine gets no answer.
      await askInVain()
      await ip(`address add 10.66.0.1/24 broadcast + dev ${bridge}`)
    },
  }
  for (const [what, change] of Object.entries(ways)) {
    test(`${what}, is served again`, async () => {
      await using network = await openNetwork(`interface-${Object.keys(ways).indexOf(what)}`)
      const server = await startOwnDhcp(network, { mode: 'full' })
      const host = await network.addHost('52:54:00:00:00:07')
      const before = await udhcpc(host)
      const ip = (line: string) => network.run([findProgram('ip'), ...line.split(' ')])
      await change(network, ip, () => udhcpcInVain(host))
      const after = await udhcpc(host)
      assert.equal(
        after['ip'],
        before['ip'],
        server
          .lines()
          .map(({ text }) => text)
          .join('\n'),
      )
    })
  }
})

test('a server that is interrupted during the search for other DHCP servers says so', async (context) => {
  const workspace = makeWorkspace('interrupted')
  context.after(() => workspace.remove())
  const image = await buildServedImage(workspace, '10.66.0.1:/srv/test,v3')
  await using network = await openNetwork('interrupted')
  const flags = ['--dhcp', 'full', '--range', '10.66.0.100-10.66.0.110', '--listen', '10.66.0.1']
  const command = [
    process.execPath,
    cli,
    'serve',
    image,
    ...flags,
    '--state',
    workspace.path('state'),
    ...workersFlag(),
  ]
  // The server searches from port 68, the port of DHCP clients.
  const asks = 'grep -q ":0044 " /proc/net/udp /proc/net/udp6'
  const script = `"$@" 2>&1 & until ${asks}; do sleep 0.05; done; kill -INT $!; wait $!; echo "status $?"`
  const said = await network.run(['bash', '-c', `set -m; ${script}`, 'bash', ...command])
  assert.match(said, /^error: interrupted \[interrupted\]\nstatus 130$/m)
})

test('a server ends if its address changes, so that systemd starts it again', async (context) => {
  const workspace = makeWorkspace('other-address')
  context.after(() => workspace.remove())
  const image = await buildServedImage(workspace, '10.66.0.1:/srv/test,v3')
  await using network = await openNetwork('other-address')
  const { bridge } = network
  // Without a carrier, Node does not list the addresses of the bridge.
  await network.addHost('52:54:00:00:00:07')
  const state = ['--state', workspace.path('state'), ...workersFlag(2)]
  const command = [process.execPath, cli, 'serve', image, '--dhcp', 'off', '--interface', bridge]
  const script = '"$@" 2>&1; echo "status $?"'
  const server = network.start('serve', ['bash', '-c', script, 'bash', ...command, ...state])
  await server.waitFor(/^on 10\.66\.0\.1 /)
  const ip = (line: string) => network.run([findProgram('ip'), ...line.split(' ')])
  // In this order, because the kernel deletes the other addresses of a network with the first one.
  await ip(`address delete 10.66.0.1/24 dev ${bridge}`)
  await ip(`address add 10.66.0.2/24 broadcast + dev ${bridge}`)
  await server.waitFor(
    /^error: the interface .* now has the address 10\.66\.0\.2, .*\[cannot-listen\]$/,
  )
  await server.waitFor(/^status 5$/)
})
