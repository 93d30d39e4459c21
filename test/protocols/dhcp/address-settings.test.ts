import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { parseNetwork } from '../../../src/ipv4.ts'
import { checkAddresses, reservationsNow } from '../../../src/protocols/dhcp/address-settings.ts'
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

  test('can be reserved later, and what cannot be kept is told once', () => {
    let later = new Map([
      ['a', '10.0.0.9'],
      ['b', '10.0.1.9'],
      ['c', '10.0.0.254'],
      ['d', '10.0.0.7'],
      ['e', '10.0.0.9'],
      ['own', '10.0.0.10'],
    ])
    const told: string[] = []
    const now = reservationsNow(
      {
        ...settings,
        reservations: new Map([['own', '10.0.0.7']]),
        reservedLater: () => later,
      },
      check(),
      ({ message }) => told.push(message),
    )
    const expected = [
      ['own', '10.0.0.7'],
      ['a', '10.0.0.9'],
    ]
    assert.deepEqual([[...now()], told.length], [expected, 5])
    assert.match(told[0] ?? '', /^b cannot have .* it is not in the network 10\.0\.0\.0\/24$/)
    assert.match(told.at(-1) ?? '', /^own cannot have .* --reserve gives it 10\.0\.0\.7$/)
    assert.equal(now(), now())
    later = new Map(later)
    assert.deepEqual([[...now()], told.length], [expected, 5])
    later = new Map()
    assert.deepEqual([...now()], [['own', '10.0.0.7']])
  })
})
