// Opens leases on a full disk. Fails with an error.
//
//     node full-leases-program.ts DISK end | kill | new
//
// DISK: a small file system, in a mount namespace of its own. What the server before did: it ended, or it
// was killed, or there was none.

import assert from 'node:assert/strict'
import { appendFileSync, cpSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mock } from 'node:test'
import { NetimageError } from '../../../src/errors.ts'
import { formatAddress, parseAddress } from '../../../src/ipv4.ts'
import { openLeaseFile } from '../../../src/protocols/dhcp/lease-file.ts'
import { keepLeases } from '../../../src/protocols/dhcp/leases.ts'
import { netimageError } from '../../support/errors.ts'

const [disk = '', way = ''] = process.argv.slice(2)
const ballast = join(disk, 'ballast')
const told: string[] = []
const range = { first: '10.0.0.1', last: '10.0.0.99' }
const [hour, now] = [3600, 1_000_000_000]
mock.timers.enable({ apis: ['setTimeout'] })

function open(state: string) {
  const file = openLeaseFile(join(disk, state, 'leases.sqlite'), ({ code, hint = '' }) => {
    told.push(`${code} ${hint}`)
  })
  const reservations = new Map([['reserved', '10.0.0.50']])
  return {
    file,
    leases: keepLeases({ range, reservations: () => reservations, excluded: [], file }),
  }
}

/** Fills the disk to the last byte. */
function fill(): void {
  writeFileSync(ballast, '')
  for (let more = 1; more > 0;) {
    const { bavail, bsize } = statfsSync(disk)
    more = Math.min(bavail * bsize, 65_536)
    if (more > 0) appendFileSync(ballast, Buffer.alloc(more))
  }
}

if (way === 'new') {
  fill()
  assert.throws(
    () => open('new'),
    (error) => error instanceof NetimageError && error.code === 'disk-full',
  )
} else {
  const before = open('before')
  before.leases.grant('10.0.0.7', 'running', now, 10 * hour)
  before.leases.grant('10.0.0.8', 'off', now, 1)
  if (way === 'kill') cpSync(join(disk, 'before'), join(disk, 'state'), { recursive: true })
  before.file.close()
  if (way === 'end') cpSync(join(disk, 'before'), join(disk, 'state'), { recursive: true })
  fill()

  const later = now + hour * 1000
  const full = open('state')
  const hint = 'disk-full Make room on that disk, or raise the quota of the server’s user.'
  assert.equal(told.length, 1)
  assert.ok(told[0]?.startsWith(hint), told[0])
  const grant = (address: string, mac: string) => full.leases.grant(address, mac, later, hour)
  for (const [mac, address] of [
    ['running', '10.0.0.7'],
    ['off', '10.0.0.8'],
    ['reserved', '10.0.0.50'],
  ] as const) {
    assert.deepEqual(full.leases.candidates(mac, undefined, later), [address])
    grant(address, mac)
  }
  assert.throws(() => grant('10.0.0.9', 'new'), netimageError('disk-full'))
  mock.timers.tick(1000)
  mock.timers.tick(20_000)
  assert.equal(told.length, 1)

  rmSync(ballast)
  mock.timers.tick(10_000)
  grant('10.0.0.9', 'new')
  full.file.close()
  const after = open('state')
  const held = after.file.read().map(({ mac, address }) => `${formatAddress(address)} ${mac}`)
  assert.deepEqual(held, ['10.0.0.7 running', '10.0.0.8 off', '10.0.0.9 new', '10.0.0.50 reserved'])
  const ends = after.file.read().filter(({ address }) => address !== parseAddress('10.0.0.7'))
  assert.ok(ends.every(({ expires }) => expires === later + hour * 1000))
  after.file.close()
}
process.stdout.write('as expected\n')
