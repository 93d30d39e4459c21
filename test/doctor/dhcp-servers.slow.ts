// Other DHCP servers in the network of the doctor.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startDnsmasq } from '../e2e/support/daemons.ts'
import { openNetwork } from '../e2e/support/network.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { runDoctor } from './support/run-doctor.ts'

const [routerMac, otherMac] = ['02:00:00:00:00:01', '02:00:00:00:00:02']

const givesBoot = `port=0
dhcp-range=10.66.0.50,10.66.0.59
dhcp-match=set:uefi,option:client-arch,7
dhcp-match=set:uefi,option:client-arch,11
dhcp-boot=tag:!uefi,bios.0,boot,10.66.0.9
dhcp-boot=tag:uefi,uefi.efi
`

const isProxy = `port=0
dhcp-range=10.66.0.0,proxy
pxe-prompt="boot",0
pxe-service=x86PC,"boot",bios
`

test('other DHCP servers are told with what they tell each kind of firmware', async (context) => {
  const workspace = makeWorkspace('doctor-dhcp')
  context.after(() => workspace.remove())
  const state = ['--state', workspace.path('state')]
  await using network = await openNetwork('doctor-dhcp')
  const { bridge } = network
  const [router, other] = [await network.addHost(routerMac), await network.addHost(otherMac)]
  await router.run(['ip', 'address', 'add', '10.66.0.2/24', 'dev', 'eth0'])
  await other.run(['ip', 'address', 'add', '10.66.0.3/24', 'dev', 'eth0'])
  const servers = [await startDnsmasq(router, givesBoot), await startDnsmasq(other, isProxy)]
  try {
    const beside = await runDoctor(network, state)
    assert.equal(beside.status, 0)
    assert.deepEqual(
      beside.of('dhcp-server').map(({ level, message }) => [level, message]),
      [
        [
          'warning',
          `the DHCP server 10.66.0.2 on ${bridge} gives addresses, and tells machines what to boot (BIOS: the file "bios.0" and the server 10.66.0.9; UEFI on x64, UEFI on arm64: the file "uefi.efi"): firmware may follow it instead of netimage`,
        ],
        [
          'warning',
          `the DHCP server 10.66.0.3 on ${bridge} gives no addresses, and tells machines what to boot (BIOS: the options of PXE (option 43)): firmware may follow it instead of netimage`,
        ],
      ],
    )
    assert.deepEqual(beside.of('no-dhcp-server'), [])
    const alone = await runDoctor(network, [...state, '--dhcp', 'full'])
    assert.equal(alone.status, 1)
    assert.deepEqual(
      alone.of('dhcp-server').map(({ level }) => level),
      ['error', 'warning'],
    )
  } finally {
    for (const server of servers) await server.kill()
  }
  const ours =
    'dhcp-boot=tag:!uefi,bios.0,boot,10.66.0.1\ndhcp-boot=tag:uefi,uefi.efi,boot,10.66.0.1'
  const told = await startDnsmasq(router, givesBoot.replace(/^dhcp-boot[^]*/m, `${ours}\n`))
  const off = await runDoctor(network, [...state, '--dhcp', 'off'])
  assert.deepEqual(
    off.of('dhcp-server').map(({ level }) => level),
    ['note'],
  )
  await told.kill()
  // The name of this machine, as machines are told it: here it means the loopback.
  const named = 'dhcp-option=66,localhost\ndhcp-option=67,own.efi'
  const byName = await startDnsmasq(router, givesBoot.replace(/^dhcp-boot[^]*/m, `${named}\n`))
  const offByName = await runDoctor(network, [...state, '--dhcp', 'off'])
  assert.deepEqual(
    offByName.of('dhcp-server').map(({ level, message }) => [level, message]),
    [
      [
        'note',
        `the DHCP server 10.66.0.2 on ${bridge} gives addresses, and tells machines what to boot (BIOS, UEFI on x64, UEFI on arm64: the file "own.efi" and the server localhost)`,
      ],
    ],
  )
  await byName.kill()
  const nobody = await runDoctor(network, state)
  assert.equal(nobody.of('no-dhcp-server').length, 1)
})
