import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { parseNetwork } from '../../src/ipv4.ts'
import { createOnInterface, parseRoutes } from '../../src/protocols/on-interface.ts'
import { temporaryDirectory } from '../support/temporary.ts'

// Linux prints this on a little-endian machine: `default via 10.0.0.1 dev eth0`,
// `10.77.0.0/16 via 192.168.5.9 dev eth1`, `10.77.8.0/24 via 10.0.0.9 dev eth0`, and the networks
// of both interfaces.
const table = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t00004D0A\t0905A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t00084D0A\t0900000A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
`

const file = join(temporaryDirectory(), 'route')
writeFileSync(file, table)
const eth0 = { name: 'eth0', address: '10.0.0.5', network: parseNetwork('10.0.0.5/24') }
const eth1 = { name: 'eth1', address: '192.168.5.5', network: parseNetwork('192.168.5.5/24') }

suite('clients on the served network', () => {
  const places = {
    '10.0.0.7': 'eth0',
    '192.168.5.7': 'eth1',
    // These are behind routers.
    '203.0.113.7': 'eth0',
    '10.77.1.1': 'eth1',
    '10.77.8.1': 'eth0',
  }
  for (const [address, name] of Object.entries(places)) {
    test(`include ${address} for ${name}`, () => {
      assert.equal(createOnInterface(eth0, file)(address), name === 'eth0')
      assert.equal(createOnInterface(eth1, file)(address), name === 'eth1')
    })
  }

  test('include, for both interfaces, a client on a network that two interfaces have', () => {
    const wlan0 = { ...eth0, name: 'wlan0', address: '10.0.0.6' }
    assert.ok(createOnInterface(wlan0, file)('10.0.0.7'))
    assert.ok(!createOnInterface(wlan0, file)('203.0.113.7'))
  })

  test('include every client, if the system has no table of routes', () => {
    assert.ok(createOnInterface(eth0, `${file}-none`)('192.168.5.7'))
  })

  test('include only those on the network itself while the routes cannot be read', () => {
    const hears = createOnInterface(eth0, temporaryDirectory())
    assert.ok(hears('10.0.0.7'))
    assert.ok(!hears('203.0.113.7'))
    assert.ok(!hears('192.168.5.7'))
  })

  test('are found by routes in either byte order', () => {
    const swapped = table.replaceAll(/\b(..)(..)(..)(..)\b(?=\t)/g, (word, a, b, c, d) =>
      /^[0-9A-F]{8}$/.test(word) ? `${d}${c}${b}${a}` : word,
    )
    assert.notEqual(swapped, table)
    assert.deepEqual(parseRoutes(swapped, 'BE'), parseRoutes(table, 'LE'))
    assert.equal(parseRoutes(table, 'LE').length, 5)
    assert.deepEqual(parseRoutes('no table\n\n'), [])
  })
})
