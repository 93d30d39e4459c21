// Machines that do not identify themselves in each packet. Our own DHCP server, and other DHCP
// servers with the configuration that netimage writes, must give the same answers.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { configure } from '../servers/configure.ts'
import { startDnsmasq, startKea } from './support/daemons.ts'
import { openNetwork, type Network } from './support/network.ts'
import { startOwnDhcp } from './support/own-dhcp.ts'

const program = join(import.meta.dirname, '../protocols/support/dhcp-exchange-program.ts')
const files = ['boot.ipxe', 'bootx64.efi', 'config.txt', 'undionly.kpxe']
const settings = { address: '10.66.0.1', range: '10.66.0.100-10.66.0.199' }

const servers: Record<string, (network: Network) => Promise<unknown>> = {
  'our own': (network) => startOwnDhcp(network, { mode: 'full', files }),
  dnsmasq: (network) => {
    const written = configure('dnsmasq', { ...settings, interface: network.bridge }, files)
    // Without a ping before each offer, which takes three seconds.
    return startDnsmasq(network, `${written}no-ping\n`)
  },
  Kea: (network) =>
    startKea(network, configure('isc-kea', { ...settings, interface: network.bridge }, files)),
}

const replySchema = v.object({
  nextServer: v.string(),
  yourAddress: v.string(),
  file: v.string(),
  options: v.record(v.string(), v.string()),
})

type Options = Record<number, string>

const hex = (text: string) => Buffer.from(text).toString('hex')
const pxeClass = { 60: hex('PXEClient:Arch:00000:UNDI:002001') }
const bios = { 93: '0000', 94: '010201' }
/** The options that a Raspberry Pi asks for, and its identifier. */
const pi = { 55: '01032b3c4243', 97: '0052506934c031110001020304aabbccdd' }
const menu = `091700001452${hex('aspberry Pi Boot   ')}`

for (const [name, start] of Object.entries(servers)) {
  suite(`with ${name}`, () => {
    async function exchange(mac: string, discover: Options, request: Options) {
      await using network = await openNetwork(`exchange-${name.replaceAll(' ', '-')}`)
      // A bridge has a carrier only if there is a host.
      const host = await network.addHost(mac)
      await start(network)
      const packets = [JSON.stringify(discover), JSON.stringify(request)]
      const said = await host.run([process.execPath, program, mac, ...packets])
      const [offer, told] = said.trim().split('\n')
      const read = (line = '') => v.parse(replySchema, JSON.parse(line))
      return [read(offer), read(told)] as const
    }

    test('a kernel gets the server address that it uses for `nfsroot=` without a server', async () => {
      // ic_dhcp_init_options() in Linux's net/ipv4/ipconfig.c
      const list = { 55: '0103060c0f111a28' }
      for (const reply of await exchange('52:54:00:00:00:07', list, list)) {
        assert.equal(reply.nextServer, '10.66.0.1')
        assert.match(reply.yourAddress, /^10\.66\.0\.1\d\d$/)
      }
    })

    for (const [who, mac, more] of [
      ['by its hardware address', 'dc:a6:32:01:36:c2', { 97: `00${'11'.repeat(16)}` }],
      ['by its identifier', '02:00:00:00:00:05', {}],
    ] as const) {
      test(`a Raspberry Pi whose REQUEST has no vendor class is recognised ${who}`, async () => {
        const identity = { ...pi, ...more, ...bios }
        for (const reply of await exchange(mac, { ...identity, ...pxeClass }, identity)) {
          assert.equal(reply.nextServer, '10.66.0.1')
          const { 43: vendor = '', 60: vendorClass, 66: server } = reply.options
          assert.ok(vendor.includes(menu), vendor)
          assert.equal(vendorClass, hex('PXEClient'))
          assert.match(server ?? '', new RegExp(`^${hex('10.66.0.1')}(00)?$`))
        }
      })
    }

    test('UEFI whose REQUEST has no vendor class gets the same file', async () => {
      const uefi = { 55: '0103424361', 93: '0007', 94: '010310', 97: `00${'22'.repeat(16)}` }
      const discover = { ...uefi, 60: hex('PXEClient:Arch:00007:UNDI:003016') }
      for (const reply of await exchange('52:54:00:00:00:07', discover, uefi)) {
        assert.equal(reply.nextServer, '10.66.0.1')
        const file = Buffer.from(reply.options[67] ?? '', 'hex').toString()
        assert.equal(reply.file || file.replace(/\0$/, ''), 'bootx64.efi')
      }
    })

    test('a machine keeps its address if its system sends another client identifier', async () => {
      await using network = await openNetwork(`identifier-${name.replaceAll(' ', '-')}`)
      const mac = '52:54:00:00:00:07'
      const host = await network.addHost(mac)
      await start(network)
      const addresses = new Set<string>()
      for (const identifier of [undefined, '01525400000007', 'ff00000001000100', 'ff12345678']) {
        const options = JSON.stringify(identifier === undefined ? {} : { 61: identifier })
        const said = await host.run([process.execPath, program, mac, options, options])
        const line = said.trim().split('\n').at(-1) ?? ''
        addresses.add(v.parse(replySchema, JSON.parse(line)).yourAddress)
      }
      assert.equal(addresses.size, 1, [...addresses].join())
    })
  })
}
