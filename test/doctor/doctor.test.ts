// The doctor in networks with real servers, and a server that says at its start what the doctor finds.

import assert from 'node:assert/strict'
import { chownSync, mkdirSync } from 'node:fs'
import { after, suite, test } from 'node:test'
import { startDnsmasq, startRpcbind } from '../e2e/support/daemons.ts'
import { openNetwork } from '../e2e/support/network.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { cli, workersFlag } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { runDoctor } from './support/run-doctor.ts'

const capabilities = '-all,+dac_read_search'
/** May read the checkout, but not listen on low ports. */
const asOrdinaryUser = [
  ...['setpriv', `--reuid=${ordinaryUser.uid}`, `--regid=${ordinaryUser.gid}`, '--clear-groups'],
  ...[`--bounding-set=${capabilities}`, `--inh-caps=${capabilities}`],
  ...[`--ambient-caps=${capabilities}`, '--no-new-privs', '--'],
]

suite('in a network', async () => {
  const workspace = makeWorkspace('doctor')
  after(() => workspace.remove())
  const image = await buildServedImage(workspace, '10.66.0.1:/srv/test,v3')
  const network = await openNetwork('doctor')
  after(() => network[Symbol.asyncDispose]())
  // A bridge has a carrier only if there is a host.
  await network.addHost('52:54:00:00:00:07')
  const { bridge } = network
  const ip = (line: string) => network.run([findProgram('ip'), ...line.split(' ')])
  const state = ['--state', workspace.path('state')]

  test('nothing is wrong if a server can start, and the place is told', async () => {
    const { status, findings, of } = await runDoctor(network, [image, ...state, '--dhcp', 'full'])
    assert.deepEqual(
      findings.filter(({ level }) => level !== 'note'),
      [],
    )
    assert.equal(status, 0)
    const [place] = of('interface')
    assert.deepEqual(place, {
      ...{ code: 'interface', level: 'note' },
      message: `the server would use the address 10.66.0.1 of the interface ${bridge}`,
    })
    const shown = await network.run([process.execPath, cli, 'doctor', ...state, '--dhcp', 'full'])
    assert.match(shown, /^nothing was found that keeps machines from booting\n\n\d+ notes?\n/)
  })

  test('each taken port is told with its program and what stops it', async () => {
    const servers = [
      await startRpcbind(network),
      await startDnsmasq(network, 'port=0\nenable-tftp\nbind-interfaces\n'),
    ]
    try {
      const { status, of } = await runDoctor(network, [image, ...state, '--dhcp', 'off'])
      assert.equal(status, 1)
      const told = of('port-taken').map(({ message, fix }) => {
        const [, port, name, pid] =
          /^the port (.*) \(.*\) is taken by (\w+) \(process (\d+)\)$/.exec(message) ?? []
        assert.equal(fix, `kill ${pid}`)
        return [port, name]
      })
      assert.deepEqual(told, [
        ['UDP 69', 'dnsmasq'],
        ['TCP 111', 'rpcbind'],
        ['UDP 111', 'rpcbind'],
      ])
      // On this interface, no DHCP server is waited for.
      const others = await runDoctor(network, [
        ...['--listen', '127.0.0.1', ...state, '--dhcp', 'off'],
        ...['--no-port-mapper', '--tftp-port', '6969'],
      ])
      assert.deepEqual(others.of('port-taken'), [])
    } finally {
      for (const server of servers) await server.kill()
    }
  })

  test('a user without the right to listen on low ports is told all of them', async () => {
    const { status, of } = await runDoctor(network, [image, ...state], asOrdinaryUser)
    assert.equal(status, 1)
    const [finding, ...more] = of('port-not-allowed')
    assert.deepEqual(more, [])
    const expected =
      'UDP 67 (DHCP), UDP 69 (TFTP), TCP 80 (HTTP), TCP 111 (the port mapper), UDP 111 (the port mapper)'
    assert.equal(finding?.message, `this user may not listen on ${expected}`)
  })

  test('a server that may not read the rules of the firewall says so once, and who may', async () => {
    const own = workspace.path('own')
    mkdirSync(own)
    chownSync(own, ordinaryUser.uid, ordinaryUser.gid)
    const server = network.start('serve-as-user', [
      ...asOrdinaryUser,
      ...[process.execPath, cli, 'serve', '--listen', '10.66.0.1', '--state', own, '--page', 'off'],
      ...['--dhcp', 'off', '--tftp-port', '6969', '--http-port', '8069', '--no-port-mapper'],
      ...workersFlag(),
    ])
    await server.waitFor(
      /^note: cannot tell here whether a firewall drops .* \[firewall-unknown\]$/,
    )
    await server.waitFor(/^ {4}Run netimage doctor as root, with the same flags\.$/)
    await server.kill()
  })

  test('a wrong address, a firewall, the MTU and several addresses are found, and a server says them', async () => {
    await ip(`address add 10.66.0.5/24 dev ${bridge}`)
    await ip(`link set ${bridge} mtu 9000`)
    try {
      const several = await runDoctor(network, [image, ...state])
      assert.equal(several.status, 1)
      assert.match(several.of('interface')[0]?.message ?? '', /10\.66\.0\.1.*10\.66\.0\.5/)

      const rules =
        'add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }'
      await network.run([findProgram('nft'), rules])
      const flags = ['--listen', '10.66.0.5', ...state, '--dhcp', 'off']
      const { status, of } = await runDoctor(network, [image, ...flags])
      assert.equal(status, 1)
      const [root] = of('nfs-root')
      assert.equal(root?.level, 'error')
      assert.equal(root.fix, 'netimage serve --listen 10.66.0.1')
      assert.equal(of('mtu')[0]?.fix, `ip link set dev ${bridge} mtu 1500`)

      const command = [process.execPath, cli, 'serve', image, ...flags, ...workersFlag()]
      const server = network.start('serve', command)
      await server.waitFor(/^error: machines would mount the root of .* \[nfs-root\]$/)
      await server.waitFor(/^error: nftables \(table inet t, chain c\) drops .* \[firewall\]$/)
      await server.waitFor(/^warning: the MTU of .* is 9000 instead of 1500: .* \[mtu\]$/)
      const served = await runDoctor(network, [image, ...flags])
      assert.equal(served.of('already-served').length, 1)
      assert.equal(served.of('firewall').length, 1)
      const [firewall] = of('firewall')
      await network.run(['sh', '-euc', firewall?.fix ?? ''])
      assert.deepEqual((await runDoctor(network, [image, ...flags])).of('firewall'), [])
      await server.kill()
    } finally {
      await network.run([findProgram('nft'), 'flush ruleset'])
      await ip(`link set ${bridge} mtu 1500`)
      await ip(`address delete 10.66.0.5/24 dev ${bridge}`)
    }
  })
})
