import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, type NetworkInterfaceInfo } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { findInterface } from '../../src/protocols/interfaces.ts'
import { parseArpTable, createNeighbours } from '../../src/serve/neighbours.ts'
import { netimageError } from '../support/errors.ts'

const ipv4 = (address: string, cidr: string, internal = false): NetworkInterfaceInfo => ({
  family: 'IPv4',
  mac: '00:00:00:00:00:00',
  netmask: '255.255.255.0',
  ...{ address, cidr, internal },
})
const loopback = { lo: [ipv4('127.0.0.1', '127.0.0.1/8', true)] }
const one = { ...loopback, eth0: [ipv4('10.0.0.5', '10.0.0.5/24')] }
const two = { ...one, eth1: [ipv4('192.168.1.5', '192.168.1.5/16')] }

suite('the interface that is served', () => {
  test('is the only one that there is', () => {
    const { name, address, network } = findInterface({}, one)
    assert.deepEqual([name, address, network?.address], ['eth0', '10.0.0.5', '10.0.0.0'])
  })

  test('has to be named where there are several, and these are shown', () => {
    assert.throws(
      () => findInterface({}, two),
      netimageError('bad-option', /10\.0\.0\.5 \(eth0\), 192\.168\.1\.5/),
    )
    assert.equal(findInterface({ interface: 'eth1' }, two).network?.address, '192.168.0.0')
    assert.equal(findInterface({ address: '10.0.0.5' }, two).name, 'eth0')
    assert.equal(findInterface({ address: '127.0.0.1' }, two).name, 'lo')
  })

  test('may stand beside addresses without a network, and have one itself', () => {
    const tunnel = [ipv4('100.101.102.103', '100.101.102.103/32')]
    assert.deepEqual(
      findInterface({ interface: 'eth0' }, { ...one, tailscale0: tunnel }).name,
      'eth0',
    )
    assert.deepEqual(findInterface({}, { ...loopback, wg0: tunnel }), {
      ...{ name: 'wg0', address: '100.101.102.103', network: undefined },
    })
    assert.throws(
      () => findInterface({}, { ...one, tailscale0: tunnel }),
      netimageError('bad-option', /10\.0\.0\.5 \(eth0\), 100\.101\.102\.103/),
    )
  })

  test('is that of an address with a label', () => {
    const labelled = { ...loopback, 'eth9:1': [ipv4('10.8.0.1', '10.8.0.1/24')] }
    for (const wanted of [{}, { interface: 'eth9' }, { address: '10.8.0.1' }]) {
      assert.equal(findInterface(wanted, labelled).name, 'eth9')
    }
  })

  test('that does not exist is an error', () => {
    assert.throws(
      () => findInterface({ address: '10.9.9.9' }, two),
      netimageError('bad-option', /no interface/),
    )
    assert.throws(
      () => findInterface({ interface: 'wlan0' }, two),
      netimageError('bad-option', /no interface/),
    )
  })

  test('that nothing is plugged into is believed to whoever names all of it', () => {
    const found = findInterface({ interface: 'eth2', address: '10.9.9.9' }, two)
    assert.deepEqual(found, { name: 'eth2', address: '10.9.9.9', network: undefined })
  })
})

// As Linux prints it: proc_net(5), and a second line that is not complete.
const arp = `IP address       HW type     Flags       HW address            Mask     Device
10.0.0.100       0x1         0x2         52:54:00:AB:00:01     *        br0
10.0.0.101       0x1         0x0         00:00:00:00:00:00     *        br0
`

suite('neighbours', () => {
  test('are those whose hardware addresses the kernel has', () => {
    assert.deepEqual([...parseArpTable(arp)], [['10.0.0.100', '52:54:00:ab:00:01']])
    assert.deepEqual([...parseArpTable('no table\\n\\n')], [])
  })

  test('are the same when the kernel has forgotten them, until another has their address', (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'netimage-neighbours-'))
    context.after(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'arp')
    let time = 0
    const macOf = createNeighbours(file, () => (time += 2000))
    writeFileSync(file, arp)
    assert.equal(macOf('10.0.0.100'), '52:54:00:ab:00:01')
    writeFileSync(file, arp.replace('0x2', '0x0'))
    assert.equal(macOf('10.0.0.100'), '52:54:00:ab:00:01')
    writeFileSync(file, arp.replace('AB:00:01', 'AB:00:02'))
    assert.equal(macOf('10.0.0.100'), '52:54:00:ab:00:02')
  })

  test('are read anew, but for who is content with what was read', (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'netimage-neighbours-'))
    context.after(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'arp')
    let time = 0
    const macOf = createNeighbours(file, () => (time += 10))
    const [before, after] = ['52:54:00:ab:00:01', '52:54:00:ab:00:02']
    writeFileSync(file, arp)
    assert.equal(macOf('10.0.0.100'), before)
    writeFileSync(file, arp.replace('AB:00:01', 'AB:00:02'))
    assert.equal(macOf('10.0.0.100', 1000), before)
    assert.equal(macOf('10.0.0.100'), after)
  })

  test('are unknown where there is no table', () => {
    assert.equal(createNeighbours('/nonexistent')('10.0.0.100'), undefined)
  })
})
