// What the file of a site declares of machines: network cards, serial numbers, host names and addresses.

import assert from 'node:assert/strict'
import { chownSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { buildServedImage } from '../serve/support/served-image.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { findProgram } from '../support/packages.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork } from './support/network.ts'
import { udhcpc } from './support/own-dhcp.ts'
import { startOwnServer } from './support/own-server.ts'

const path = '/srv/test'
const mac = (number: number) => `52:54:00:00:00:0${number}`
/** As iPXE asks, with the identifier of a Raspberry Pi 4 whose serial number is 5b154510. */
const asPi = [
  ...['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '93:0000', '-x', '77:69505845'],
  ...['-x', '97:00525069341131a000322ef8ed1045155b'],
]

suite('a machine that the file of the site declares', () => {
  test('is one machine with all its network cards, and gets its host name and address', async (context) => {
    const workspace = makeWorkspace('declared')
    context.after(() => workspace.remove())
    const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
    await using network = await openNetwork('declared')
    const { program: server, site } = await startOwnServer(network, [image], 'full', { workers: 2 })
    const [first, second, pi] = [
      await network.addHost(mac(1)),
      await network.addHost(mac(2)),
      await network.addHost(mac(3)),
    ]
    // The server sees the serial number before a person names it.
    await udhcpc(pi, asPi)
    const file = join(network.directory, 'site.json')
    const document = {
      machine: {
        pi1: { mac: [mac(1), mac(2)], 'host-name': 'lab1', address: '10.66.0.21' },
        pi2: { serial: '100000005b154510' },
        pi3: { mac: mac(4), address: '10.67.0.9' },
      },
    }
    writeFileSync(file, JSON.stringify(document))
    chownSync(file, ordinaryUser.uid, ordinaryUser.gid)
    const applied = await site('apply', '--file', file, '--yes')
    assert.partialDeepStrictEqual(applied, {
      declarations: [{ machine: mac(1) }, { machine: mac(3), name: 'pi2' }, { machine: mac(4) }],
    })
    await waitUntil('the first card has its address', async () => {
      return (await udhcpc(first))['ip'] === '10.66.0.21'
    })
    assert.equal((await udhcpc(first))['hostname'], 'lab1')
    const other = await udhcpc(second)
    assert.equal(other['hostname'], 'lab1')
    assert.match(other['ip'] ?? '', /^10\.66\.0\.1\d\d$/)
    await server.waitFor(
      /^error: 52:54:00:00:00:04 cannot have the address 10\.67\.0\.9 .* not in the network/,
    )

    const list = [findProgram('nfs-ls'), `nfs://${network.server}${path}?version=3`]
    for (const [host, address] of [
      [first, '10.66.0.21'],
      [second, other['ip'] ?? ''],
    ] as const) {
      await host.run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0'])
      await host.run(['ip', 'link', 'set', 'eth0', 'up'])
      assert.match(await host.run(list), / nix\n/)
    }
    const layers = readdirSync(join(network.directory, 'state', 'layers'))
    assert.deepEqual(layers, ['52-54-00-00-00-01'])
    const named = [mac(2), 'pi1', '5b154510', 'pi2']
    const found = await Promise.all(named.map((each) => site('status', each)))
    assert.partialDeepStrictEqual(found, [
      { machines: [{ machine: mac(1), declared: { hostName: 'lab1', address: '10.66.0.21' } }] },
      { machines: [{ machine: mac(1) }] },
      { machines: [{ machine: mac(3) }] },
      { machines: [{ machine: mac(3), name: 'pi2' }] },
    ])
  })
})
