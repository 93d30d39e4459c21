import assert from 'node:assert/strict'
import type { NetworkInterfaceInfo } from 'node:os'
import { suite, test } from 'node:test'
import { NetimageError } from '../../src/errors.ts'
import { findInterface } from '../../src/protocols/interfaces.ts'
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
  test('is the only one, if there is only one', () => {
    const { name, address, network } = findInterface({}, one)
    assert.deepEqual([name, address, network?.address], ['eth0', '10.0.0.5', '10.0.0.0'])
  })

  test('must be named if there are several, and the error lists them', () => {
    assert.throws(
      () => findInterface({}, two),
      netimageError('bad-option', /10\.0\.0\.5 \(eth0\), 192\.168\.1\.5/),
    )
    assert.equal(findInterface({ interface: 'eth1' }, two).network?.address, '192.168.0.0')
    assert.equal(findInterface({ address: '10.0.0.5' }, two).name, 'eth0')
    assert.equal(findInterface({ address: '127.0.0.1' }, two).name, 'lo')
  })

  test('may have an address without a network, or be beside such addresses', () => {
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

  test('is found for an address with a label', () => {
    const labelled = { ...loopback, 'eth9:1': [ipv4('10.8.0.1', '10.8.0.1/24')] }
    for (const wanted of [{}, { interface: 'eth9' }, { address: '10.8.0.1' }]) {
      assert.equal(findInterface(wanted, labelled).name, 'eth9')
    }
  })

  test('must exist', () => {
    assert.throws(
      () => findInterface({ address: '10.9.9.9' }, two),
      netimageError('cannot-listen', /no interface/),
    )
    assert.throws(
      () => findInterface({ interface: 'wlan0' }, two),
      netimageError('cannot-listen', /no interface/),
    )
  })

  test('is accepted without a cable if both its name and its address are given', () => {
    const found = findInterface({ interface: 'eth2', address: '10.9.9.9' }, two)
    assert.deepEqual(found, { name: 'eth2', address: '10.9.9.9', network: undefined })
  })

  test('causes a hint with all options that it needs while it has no cable', () => {
    assert.throws(
      () => findInterface({ address: '10.9.9.9' }, two),
      (error) =>
        error instanceof NetimageError && /--interface NAME .*--network/.test(error.hint ?? ''),
    )
  })
})
