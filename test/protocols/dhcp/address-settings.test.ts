import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { parseNetwork } from '../../../src/ipv4.ts'
import { checkAddresses } from '../../../src/protocols/dhcp/address-settings.ts'
import { netimageError } from '../../support/errors.ts'

const own = ['10.0.0.1', '10.0.0.150']
const settings = {
  network: parseNetwork('10.0.0.0/24'),
  range: { first: '10.0.0.100', last: '10.0.0.199' },
  told: { routers: ['10.0.0.254'], nameServers: ['10.0.0.253'] },
  leasesFile: '',
  force: false,
}
const check = (...addresses: string[]) => {
  const macs = addresses.map((address, index) => [`52:54:00:00:00:0${index}`, address] as const)
  return checkAddresses({ ...settings, reservations: new Map(macs) }, own)
}

suite('the addresses that a full DHCP server gives', () => {
  test('do not include an address that is in use', () => {
    const taken = ['10.0.0.1', '10.0.0.150', '10.0.0.0', '10.0.0.255', '10.0.0.254', '10.0.0.253']
    assert.deepEqual(new Set(check()), new Set(taken))
    for (const address of taken) {
      assert.throws(() => check(address), netimageError('bad-option', /52:54:00:00:00:00 cannot/))
    }
  })

  test('can be reserved only once', () => {
    assert.ok(check('10.0.0.7', '10.0.0.8'))
    assert.throws(() => check('10.0.0.7', '10.0.0.7'), netimageError('bad-option', /00:01 cannot/))
  })
})
