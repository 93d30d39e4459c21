// The DHCP server with other programs' clients; loaders are in serve-dhcp-loaders.test.ts.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { openLeaseFile } from '../../src/protocols/dhcp/lease-file.ts'
import { decodePacket, encodePacket } from '../../src/protocols/dhcp/packet.ts'
import { ipxeDiscover } from '../protocols/dhcp/captured.ts'
import { findProgram } from '../support/packages.ts'
import { dnsmasqConfiguration } from './support/configuration.ts'
import { startDnsmasq } from './support/daemons.ts'
import { openNetwork, type Host } from './support/network.ts'
import { addHostElsewhere } from './support/network-elsewhere.ts'
import { eventsOf, launchOwnDhcp, startOwnDhcp, udhcpc, udhcpcInVain } from './support/own-dhcp.ts'
import { waitUntil } from '../support/waiting.ts'

const mac = '52:54:00:00:00:07'
const other = '52:54:00:00:00:08'
const files = ['undionly.kpxe', 'bootx64.efi', 'boot.ipxe']

suite('a DHCP server of our own', { concurrency: 2 }, () => {
  test('gives udhcpc an address, and the boot file of the architecture', async () => {
    await using network = await openNetwork('dhcp-udhcpc')
    const server = await startOwnDhcp(network, { mode: 'full', files })
    const host = await network.addHost(mac)

    const plain = await udhcpc(host)
    assert.equal(plain?.['serverid'], network.server)
    assert.equal(plain['subnet'], '255.255.255.0')
    assert.equal(plain['lease'], '600')
    assert.equal(plain['siaddr'], network.server)
    assert.match(plain['ip'] ?? '', /^10\.66\.0\.1\d\d$/)
    assert.equal(plain['boot_file'], undefined)

    const efi = await udhcpc(host, ['-V', 'PXEClient:Arch:00007:UNDI:003016', '-x', '93:0007'])
    assert.equal(efi?.['ip'], plain['ip'])
    assert.equal(efi?.['siaddr'], network.server)
    assert.equal(efi?.['boot_file'], 'bootx64.efi')
    // Some systems send an identifier of their own after the initrd sent none.
    const identified = await udhcpc(host, ['-C', '-x', '0x3d:ff00000001000100'])
    assert.equal(identified?.['ip'], plain['ip'])

    const arm = ['-V', 'PXEClient:Arch:00011:UNDI:003016', '-x', '93:000b']
    await udhcpcInVain(host, arm)
    const refused = eventsOf(server, mac).at(-1)
    assert.equal(refused?.step, 'refuse')
    assert.match(refused?.reason ?? '', /no loader for PXE on architecture 11/)
  })

  test('gives dhclient and dhcpcd an address that they keep over a renewal and a restart', async () => {
    await using network = await openNetwork('dhcp-clients')
    let server = await startOwnDhcp(network, { mode: 'full' })
    const first = await network.addHost(mac)
    const lease = ['-lf', join(first.directory, 'leases'), '-pf', join(first.directory, 'pid')]
    const dhclient = [findProgram('dhclient'), '-4', '-v', '-1', '-d', ...lease, 'eth0']
    const bound = /bound to (10\.66\.0\.1\d\d)/
    const client = first.start('dhclient', dhclient)
    const { text } = await client.waitFor(bound)
    const [, address = ''] = bound.exec(text) ?? []
    // The client asks for its old address without a DISCOVER. (INIT-REBOOT)
    await client.kill()
    await server.kill()
    server = await startOwnDhcp(network, { mode: 'full' })
    const again = first.start('dhclient', dhclient)
    assert.ok((await again.waitFor(bound)).text.includes(address))
    assert.ok(!again.lines().some((line) => line.text.includes('DHCPDISCOVER')))
    await again.kill()
    await first.run([findProgram('dhclient'), '-r', '-4', ...lease, 'eth0'])
    await server.waitFor(/"step":"release"/)

    const second = await network.addHost(other)
    const dhcpcd = [findProgram('dhcpcd'), '--ipv4only', '--nobackground', '--debug', 'eth0']
    const daemon = second.start('dhcpcd', dhcpcd)
    const leased = await daemon.waitFor(/leased (10\.66\.0\.1\d\d) for 600 seconds/)
    const [, ip = ''] = /leased (\S+)/.exec(leased.text) ?? []
    await daemon.waitFor(/adding IP address/)
    await second.run([findProgram('dhcpcd'), '--rebind', 'eth0'])
    await server.waitFor(new RegExp(`"mac":"${other}".*"request"`))
    const given = eventsOf(server, other).flatMap(({ step, address: to }) =>
      step === 'acknowledge' ? [to] : [],
    )
    assert.deepEqual([...new Set(given)], [ip])
  })

  test('tells udhcpc and dhclient the router, the name servers and the domain', async () => {
    await using network = await openNetwork('dhcp-way-out')
    // The router has the first address of the range. No machine gets it, although no router
    // answers.
    const range = { first: '10.66.0.100', last: '10.66.0.101' }
    const told = {
      routers: ['10.66.0.100'],
      nameServers: ['192.0.2.53', '10.66.0.1'],
      domain: 'machines.home.arpa',
    }
    await startOwnDhcp(network, { mode: 'full', range, told })
    const [first, second] = [await network.addHost(mac), await network.addHost(other)]
    const lease = await udhcpc(first)
    assert.equal(lease?.['ip'], '10.66.0.101')
    assert.equal(lease['router'], '10.66.0.100')
    assert.equal(lease['dns'], '192.0.2.53 10.66.0.1')
    assert.equal(lease['domain'], 'machines.home.arpa')
    await udhcpcInVain(second)

    const files = ['-lf', join(first.directory, 'leases'), '-pf', join(first.directory, 'pid')]
    const dhclient = [findProgram('dhclient'), '-4', '-v', '-1', '-d', ...files, 'eth0']
    await first.start('dhclient', dhclient).waitFor(/bound to 10\.66\.0\.101/)
    const route = await first.run(['ip', 'route', 'get', '203.0.113.7'])
    assert.match(route, /via 10\.66\.0\.100 dev eth0 src 10\.66\.0\.101/)
    const resolver = await first.run(['cat', '/etc/resolv.conf'])
    assert.match(
      resolver,
      /^search machines\.home\.arpa\.?\nnameserver 192\.0\.2\.53\nnameserver 10\.66\.0\.1$/m,
    )
  })

  test('answers only machines on its interface', async () => {
    await using network = await openNetwork('dhcp-two-interfaces')
    const outside = await addHostElsewhere(network, other)
    const server = await startOwnDhcp(network, { mode: 'full' })
    const inside = await network.addHost(mac)
    await udhcpcInVain(outside)
    assert.ok((await udhcpc(inside))['ip']?.startsWith('10.66.0.'))

    // A server on the other interface receives the packets of this machine.
    const range = 'dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,1h'
    const lines = dnsmasqConfiguration({ bridge: 'br1' }).replace(/^dhcp-range=.*$/m, range)
    const dnsmasq = await startDnsmasq(network, lines)
    await dnsmasq.waitFor(/DHCP, IP range/)
    assert.ok((await udhcpc(outside))['ip']?.startsWith('10.77.0.'))
    assert.ok((await udhcpc(inside))['ip']?.startsWith('10.66.0.'))
    assert.deepEqual(eventsOf(server, other), [])
  })

  test('can be a proxy beside another server on the same machine', async () => {
    await using network = await openNetwork('dhcp-same-machine')
    const dnsmasq = await startDnsmasq(network, dnsmasqConfiguration(network))
    const server = await startOwnDhcp(network, { mode: 'proxy', files })
    const host = await network.addHost(mac)
    const told = await udhcpc(host, ['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '93:0000'])
    assert.match(told?.['ip'] ?? '', /^10\.66\.0\.1\d\d$/)
    await waitUntil('the proxy answers, too', () =>
      eventsOf(server, mac).some(({ bootFile }) => bootFile === 'undionly.kpxe'),
    )

    // The release is sent to the server's address.
    const lease = ['-lf', join(host.directory, 'leases'), '-pf', join(host.directory, 'pid')]
    const dhclient = [findProgram('dhclient'), '-4', ...lease]
    const client = host.start('dhclient', [...dhclient, '-v', '-1', '-d', 'eth0'])
    await client.waitFor(/bound to/)
    await client.kill()
    await host.run([...dhclient, '-r', 'eth0'])
    await dnsmasq.waitFor(/DHCPRELEASE/)
  })

  test('refuses machines that are not allowed, and reports it', async () => {
    await using network = await openNetwork('dhcp-allow')
    const server = await startOwnDhcp(network, { mode: 'full', allow: [mac] })
    const [allowed, stranger] = [await network.addHost(mac), await network.addHost(other)]
    await udhcpcInVain(stranger)
    await udhcpc(allowed)
    const steps = eventsOf(server, other).map(({ step, reason }) => `${step}: ${reason}`)
    assert.deepEqual(
      [...new Set(steps)],
      ['refuse: the machine is not among the machines that are served'],
    )
  })

  test('does not give an address that is in use, and gives reserved addresses', async () => {
    await using network = await openNetwork('dhcp-conflict')
    const squatter = await network.addHost(other)
    await squatter.run(['ip', 'address', 'add', '10.66.0.150/24', 'dev', 'eth0'])
    const reservations = { '52:54:00:00:00:09': '10.66.0.9', '52:54:00:00:00:0a': '10.66.0.150' }
    const range = { first: '10.66.0.149', last: '10.66.0.150' }
    const server = await startOwnDhcp(network, { mode: 'full', range, reservations })

    const reserved = await network.addHost('52:54:00:00:00:09')
    assert.equal((await udhcpc(reserved))['ip'], '10.66.0.9')
    const unlucky = await network.addHost('52:54:00:00:00:0a')
    await udhcpcInVain(unlucky)
    const refused = eventsOf(server, '52:54:00:00:00:0a').at(-1)
    assert.equal(refused?.reason, `10.66.0.150 is used by ${other}`)
    const host = await network.addHost(mac)
    assert.equal((await udhcpc(host, ['-r', '10.66.0.150']))['ip'], '10.66.0.149')
  })

  test('searches for users of an address only on its own interface', async () => {
    await using network = await openNetwork('dhcp-overlap')
    // Without a given interface, the kernel sends packets for these addresses to this bridge.
    for (const command of [
      'link add other type bridge',
      'address add 10.66.0.129/25 dev other',
      'link set other up',
    ]) {
      await network.run(['ip', ...command.split(' ')])
    }
    const squatter = await network.addHost(other)
    await squatter.run(['ip', 'address', 'add', '10.66.0.150/24', 'dev', 'eth0'])
    const range = { first: '10.66.0.149', last: '10.66.0.150' }
    await startOwnDhcp(network, { mode: 'full', range })
    const host = await network.addHost(mac)
    assert.equal((await udhcpc(host, ['-r', '10.66.0.150']))['ip'], '10.66.0.149')
  })

  test('does not start if another server gives addresses, unless it is forced', async () => {
    await using network = await openNetwork('dhcp-other')
    const router = await network.addHost('02:00:00:00:00:01')
    await router.run(['ip', 'address', 'add', '10.66.0.2/24', 'dev', 'eth0'])
    const leases = 'dhcp-leasefile=/run/router.leases'
    const configuration = dnsmasqConfiguration({ bridge: 'eth0' }, [leases])
    // By default, dnsmasq waits three seconds for an answer to its ping before it offers an address.
    const pinging = configuration.replace(/^no-ping$/m, '')
    assert.notEqual(pinging, configuration)
    const dnsmasq = await startDnsmasq(router, pinging)
    const refusing = launchOwnDhcp(network, { mode: 'full', force: false })
    const { text } = await refusing.waitFor(/^(failed|ready)/)
    assert.equal(text, 'failed: another DHCP server, 10.66.0.2, gives addresses on enx001122334455')
    const forced = await startOwnDhcp(network, { mode: 'full', force: true })
    await forced.kill()
    await dnsmasq.kill()
    const lonely = await startOwnDhcp(network, { mode: 'full', force: false })
    await lonely.kill()
  })

  test('as a proxy, does not answer machines that do not boot', async () => {
    await using network = await openNetwork('dhcp-proxy')
    const server = await startOwnDhcp(network, { mode: 'proxy', files })
    const host = await network.addHost(mac)
    await udhcpcInVain(host)
    assert.deepEqual(eventsOf(server, mac), [])
    await udhcpcInVain(host, ['-V', 'U-Boot.armv8', '-x', '93:0016'])
    assert.match(eventsOf(server, mac).at(-1)?.reason ?? '', /U-Boot .*cannot use proxyDHCP/)
  })

  test('tells which address it cannot use', async () => {
    await using network = await openNetwork('dhcp-listen')
    await startOwnDhcp(network, { mode: 'proxy' })
    // Before this, the bridge has no carrier.
    await network.addHost(mac)
    const settings = { mode: 'proxy' } as const
    const told = { routers: ['10.67.0.1'], nameServers: ['10.67.0.1'] }
    for (const [wrong, message] of [
      [{ ...settings, interface: 'eth9' }, /there is no interface "eth9"/],
      [{ ...settings, address: '10.66.0.3' }, /cannot listen on 10\.66\.0\.3, .*EADDRNOTAVAIL/],
      [
        { ...settings, interface: 'lo' },
        /10\.66\.0\.1 is an address of the interface enx001122334455, not of lo/,
      ],
      [{ mode: 'full', told }, /10\.67\.0\.1 is not in the network 10\.66\.0\.0\/24/],
      [settings, /DHCP cannot listen on 10\.66\.0\.1, port 4011: .*EADDRINUSE/],
    ] as const) {
      const { text } = await launchOwnDhcp(network, wrong).waitFor(/^(failed|ready)/)
      assert.match(text, message)
    }
  })

  test('survives broken packets, and packets whose answer would be too long', async () => {
    await using network = await openNetwork('dhcp-broken')
    const server = await startOwnDhcp(network, { mode: 'full', files })
    const host = await network.addHost(mac)
    await letBroadcast(host)
    const discover = decodePacket(ipxeDiscover)
    // The answer would have to repeat these options.
    const long = [61, 97, 82].map((code) => [code, Buffer.alloc(255, 1)] as const)
    const options = new Map([...discover.options, ...long])
    options.delete(57)
    const tooLong = encodePacket({ ...discover, options }, 1472)
    const packets = [Buffer.alloc(0), Buffer.alloc(240), ipxeDiscover.subarray(0, 300), tooLong]
    const hex = packets.map((packet) => packet.toString('hex'))
    await host.run([process.execPath, '-e', broadcast, ...hex])
    await server.waitFor(/"refuse".*the longest reply that the machine accepts is too short/)
    const told = server.lines().filter(({ text: line }) => line.includes('the packet is not DHCP'))
    assert.equal(told.length, 3)
    await udhcpc(host)
  })

  test('reports why it cannot answer a machine', async () => {
    await using network = await openNetwork('dhcp-refused')
    const server = await startOwnDhcp(network, { mode: 'full', files })
    const host = await network.addHost(mac)
    await letBroadcast(host)
    // ic_bootp_init_ext() in Linux's net/ipv4/ipconfig.c: the wanted options, with empty values.
    const asked = [1, 3, 5, 12, 40, 17].map((code) => [code, Buffer.alloc(4)] as const)
    const discover = decodePacket(ipxeDiscover)
    const hardwareAddress = Buffer.from(mac.replaceAll(':', ''), 'hex')
    const bootp = { ...discover, hardwareAddress, options: new Map(asked) }
    // IP over InfiniBand has no hardware address in this field. [RFC 4390 §2.1]
    const infiniband = { ...discover, hardwareType: 32, hardwareAddress: Buffer.alloc(0) }
    const packets = [bootp, infiniband].map((packet) => encodePacket(packet).toString('hex'))
    await host.run([process.execPath, '-e', broadcast, ...packets])
    await server.waitFor(/"refuse".*no hardware address of six bytes/)
    const line = server.lines().find(({ text }) => text.includes('BOOTP'))
    assert.match(
      line?.text ?? '',
      new RegExp(`"reason":"the machine asks by BOOTP.*"mac":"${mac}"`),
    )
  })

  test('serves known machines during a flood of thousands of invented machines', async () => {
    await using network = await openNetwork('dhcp-flood')
    const server = await startOwnDhcp(network, { mode: 'full' })
    const known = await network.addHost(mac)
    const before = await udhcpc(known)
    const flooder = await network.addHost(other)
    await flooder.run(['ip', 'address', 'add', '10.66.0.250/24', 'dev', 'eth0'])
    const flood = ['-4', '-i', '-l', 'eth0', '-r', '2000', '-R', '60000', '-p', '3600']
    const perfdhcp = flooder.start('perfdhcp', [findProgram('perfdhcp'), ...flood])
    await server.waitFor(/"mac":"00:0c:01/)
    const during = await udhcpc(known)
    assert.ok(perfdhcp.isRunning())
    assert.equal(during['ip'], before['ip'])
    await waitUntil('thousands have asked', async () => (await sentBy(flooder)) > 4000)
    await perfdhcp.kill()
    assert.ok(server.isRunning())
  })

  test('keeps every acknowledged lease if it is killed under load', async () => {
    await using network = await openNetwork('dhcp-killed')
    const range = { first: '10.66.0.2', last: '10.66.0.254' }
    const server = await startOwnDhcp(network, { mode: 'full', range })
    const host = await network.addHost(mac)
    await host.run(['ip', 'address', 'add', '10.66.0.250/24', 'dev', 'eth0'])
    const load = ['-4', '-l', 'eth0', '-r', '60', '-R', '200', '-p', '20']
    const perfdhcp = host.start('perfdhcp', [findProgram('perfdhcp'), ...load])
    await server.waitFor(/"step":"acknowledge".*/)
    const acknowledgments = () =>
      server.lines().filter(({ text }) => text.includes('"acknowledge"'))
    await waitUntil('the server acknowledges', () => acknowledgments().length > 40)
    await server.kill()
    await perfdhcp.kill()
    const acknowledged = server.lines().flatMap(({ text }) => {
      const [, machine, address] =
        /"mac":"([^"]+)".*"acknowledge","address":"([^"]+)"/.exec(text) ?? []
      return machine === undefined ? [] : [`${machine} ${address}`]
    })
    assert.ok(acknowledged.length > 20, `${acknowledged.length} acknowledged`)
    const file = openLeaseFile(join(network.directory, 'leases.sqlite'), assert.fail)
    const kept = new Set(
      file.read().map(({ mac: machine, address }) => {
        return `${machine} 10.66.0.${address % 256}`
      }),
    )
    file.close()
    assert.deepEqual(
      acknowledged.filter((lease) => !kept.has(lease)),
      [],
    )
  })
})

/** A program that broadcasts each of its arguments to DHCP servers. */
const broadcast = `
const socket = require('node:dgram').createSocket('udp4')
socket.bind(0, async () => {
  socket.setBroadcast(true)
  for (const hex of process.argv.slice(1)) {
    await new Promise((resolve) =>
      socket.send(Buffer.from(hex, 'hex'), 67, '255.255.255.255', resolve))
  }
  socket.close()
})`

/** Gives the host an address, so that it can send broadcasts of its own. */
async function letBroadcast(host: Host): Promise<void> {
  for (const command of [
    'address add 10.66.0.250/24 dev eth0',
    'route add 255.255.255.255 dev eth0',
  ]) {
    await host.run(['ip', ...command.split(' ')])
  }
}

/** @returns how many packets the host has sent */
async function sentBy(host: Host): Promise<number> {
  const shown = await host.run(['ip', '-j', '-s', 'link', 'show', 'eth0'])
  const schema = v.tuple([
    v.object({ stats64: v.object({ tx: v.object({ packets: v.number() }) }) }),
  ])
  return v.parse(schema, JSON.parse(shown))[0].stats64.tx.packets
}
