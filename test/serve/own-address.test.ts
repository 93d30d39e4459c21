// The watch over the address that the server listens on.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { OwnAddress } from '../../src/protocols/interfaces.ts'
import { watchAddress } from '../../src/serve/own-address.ts'

const place = { name: 'eth0', address: '10.0.0.1', network: undefined }

suite('the address that is served on', () => {
  test('counts as lost if the interface has other addresses for three looks, and not before', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] })
    let own: OwnAddress[] | undefined = []
    const changes: (readonly string[])[] = []
    using watch = watchAddress(
      place,
      (addresses) => changes.push(addresses),
      () => own ?? assert.fail('no descriptor is left'),
    )
    const look = (count: number, ...addresses: string[]) => {
      own = addresses.map((text) => {
        const [name = '', address = ''] = text.split(' ')
        return { name, address, network: undefined, internal: false }
      })
      for (let times = 0; times < count; times++) context.mock.timers.tick(1000)
      return changes.length
    }
    assert.ok(watch)
    assert.equal(look(10, 'eth0 10.0.0.1', 'eth1 10.1.0.1'), 0)
    // The cable is unplugged: Node sees no address of the interface.
    assert.equal(look(10, 'eth1 10.1.0.1'), 0)
    assert.equal(look(2, 'eth0 10.0.0.2'), 0)
    assert.equal(look(1, 'eth0 10.0.0.2', 'eth0 10.0.0.1'), 0)
    own = undefined
    context.mock.timers.tick(1000)
    assert.equal(look(3, 'eth0 10.0.0.2', 'eth1 10.0.0.1'), 1)
    assert.deepEqual(changes, [['10.0.0.2']])
    assert.equal(look(10, 'eth0 10.0.0.2'), 1)
  })
})
