// `netimage serve` with clients of other networks.

import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startLinuxClient } from '../protocols/support/linux-client.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { findProgram } from '../support/packages.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { openNetwork, type Host } from './support/network.ts'
import { addHostElsewhere } from './support/network-elsewhere.ts'
import { udhcpcInVain } from './support/own-dhcp.ts'
import { startOwnServer } from './support/own-server.ts'

const path = '/srv/test'
const [curl, rpcinfo] = [findProgram('curl'), findProgram('rpcinfo')]

suite('netimage serve, with clients that it must not serve', () => {
  let workspace: Workspace
  let image: string
  before(async () => {
    workspace = makeWorkspace('serve-safety')
    image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
  })
  after(() => workspace.remove())

  test('answers no client outside of the served interface', async () => {
    await using network = await openNetwork('serve-interface')
    const inside = await network.addHost('52:54:00:00:00:07')
    const outside = await addHostElsewhere(network, '52:54:00:00:00:08')
    await startOwnServer(network, [image], 'full')
    await ip(inside, 'address add 10.66.0.7/24 dev eth0')
    await ip(outside, 'address add 10.77.0.8/24 dev eth0')
    // The kernel of the server accepts packets to any of its addresses on any interface.
    await ip(outside, `route add ${network.server} via 10.77.0.1`)
    await outside.run([findProgram('busybox'), 'ping', '-c', '1', '-W', '5', network.server])
    // One machine is behind a router on the served interface, and one is behind a router on the
    // other.
    await ip(inside, 'address add 10.88.0.7/32 dev lo')
    await ip(network, 'route add 10.88.0.0/24 via 10.66.0.7')
    await ip(outside, 'address add 10.99.0.8/32 dev lo')
    await ip(network, 'route add 10.99.0.0/24 via 10.77.0.8')

    const url = `http://${network.server}/boot.ipxe`
    // rpcinfo ignores other signals while it waits.
    const asks = (seconds: string): Record<string, readonly string[]> => {
      const atMost = ['timeout', '--signal', 'KILL', seconds]
      const fetch = [curl, '-sf', '-m', seconds]
      return {
        http: [...fetch, url],
        api: [...fetch, `http://${network.server}/api/images`],
        tftp: [...fetch, `tftp://${network.server}/boot.ipxe`],
        nfs: [...atMost, findProgram('nfs-ls'), `nfs://${network.server}${path}?version=3`],
        mount: [...atMost, rpcinfo, '-n', '2049', '-T', 'udp', network.server, 'mountd', '3'],
        mapper: [...atMost, rpcinfo, '-p', network.server],
        'mapper, udp': [...atMost, rpcinfo, '-T', 'udp', network.server, '100000', '2'],
      }
    }
    const from = (address: string, seconds: string) => [
      ...[curl, '-sf', '-m', seconds, '--interface', address, url],
    ]
    for (const command of Object.values(asks('900'))) await inside.run(command)
    assert.match(await inside.run(from('10.88.0.7', '900')), /^#!ipxe/)
    // These get no answer, so they need a short time limit.
    const inVain = { ...asks('3'), 'a router': from('10.99.0.8', '3') }
    await Promise.all(
      Object.entries(inVain).map(([what, command]) => assert.rejects(outside.run(command), what)),
    )
    await udhcpcInVain(outside)
  })

  test('answers a kernel that asks for its root by UDP, because the root is ready', async () => {
    await using network = await openNetwork('serve-mount-udp')
    const { program, site } = await startOwnServer(network, [image], 'full', { workers: 2 })
    // A machine of which nobody knows anything gets no root by UDP: its request may be forged.
    await site('assign', '52:54:00:00:01:65', 'nixos-net-image-serve-x86_64-linux')
    const machine = await startLinuxClient(network, {
      ...{ name: 'udp', host: 101, path },
      options: ',port=2049,mountproto=udp',
      script:
        'grep -q mountproto=udp /proc/mounts && test -d /mnt/nix/store && echo x >/mnt/written',
    })
    await machine.waitFor(/^passed$/)
    assert.ok(program.lines().some(({ text }) => /"52:54:00:00:01:65".*"mount"/.test(text)))
  })
})

async function ip(host: Host, command: string): Promise<void> {
  await host.run(['ip', ...command.split(' ')])
}
