// Opens the databases of a server on a disk that has very little room. Fails with an error or a signal.
//
//     node small-blocks-program.ts DISK
//
// DISK: a small file system with blocks of 1 KiB, in a mount namespace of its own.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { useBootDatabase } from '../../../src/boots/database.ts'
import { openLeaseFile } from '../../../src/protocols/dhcp/lease-file.ts'
import { openSite } from '../../../src/site/site.ts'
import { candidate } from '../life/support/simulate.ts'
import type { Order } from './site-process.ts'

const [disk = ''] = process.argv.slice(2)
const [kept, ballast] = [join(disk, 'kept'), join(disk, 'ballast')]
const told: string[] = []
const onError = ({ code }: { code: string }) => void told.push(code)

const openIn = (state: string) => openSite({ state, at: 0, onTold: () => {}, onError })

function open(state: string) {
  const site = openIn(state)
  const leases = openLeaseFile(join(state, 'leases.sqlite'), onError)
  return { site, leases }
}

const before = open(join(disk, 'before'))
for (let at = 0; at < 20; at++)
  await before.site.beginAttempt('machine', at, { byDefault: candidate('a') })
before.leases.write({ mac: 'a', address: 1, expires: 1 })
useBootDatabase(join(disk, 'before'), onError, (database) => {
  database.exec("INSERT INTO facts VALUES ('a', 'b', 'c')")
  // As the server leaves them if it is killed.
  cpSync(join(disk, 'before'), join(disk, 'state'), { recursive: true })
  database.close()
})
before.leases.close()
before.site.close(0)
rmSync(join(disk, 'before'), { recursive: true })
// Each of them needs 32 KiB for the index of its log. The disk has room for a part of it.
for (const name of readdirSync(join(disk, 'state'))) {
  if (name.endsWith('-shm')) rmSync(join(disk, 'state', name))
}
// Another process of the server goes on while the disk is full.
cpSync(join(disk, 'state'), join(disk, 'shared'), { recursive: true })
const other = fork(join(import.meta.dirname, 'site-process.ts'), ['other'])
await once(other, 'message')
const order: Order = { do: 'open', state: join(disk, 'shared'), at: 0 }
other.send(order)
await once(other, 'message')
writeFileSync(kept, Buffer.alloc(12 * 1024), { flush: true })
writeFileSync(ballast, '')
for (let more = 1; more > 0;) {
  const { bavail, bsize } = statfsSync(disk)
  more = Math.min(bavail * bsize, 65_536)
  if (more > 0) appendFileSync(ballast, Buffer.alloc(more), { flush: true })
}
rmSync(kept)

const full = open(join(disk, 'state'))
assert.equal(full.site.currentAttempt('machine')?.attempt.number, 20)
assert.deepEqual(
  full.leases.read().map(({ mac }) => mac),
  ['a'],
)
const use = () => useBootDatabase(join(disk, 'state'), onError, () => {})
assert.throws(use, { code: 'disk-full' })
assert.deepEqual(told, ['disk-full', 'disk-full'])
const beside = openIn(join(disk, 'shared'))
assert.equal(beside.currentAttempt('machine')?.attempt.number, 20)
assert.deepEqual(told.splice(2), ['disk-full'])
rmSync(ballast)
use()
full.leases.write({ mac: 'b', address: 2, expires: 1 })
assert.equal((await full.site.beginAttempt('machine', 10_000))?.attempt.number, 21)
assert.equal((await beside.beginAttempt('machine', 10_000))?.attempt.number, 21)
beside.close(10_000)
other.kill()
full.leases.close()
full.site.close(10_000)
process.stdout.write('as expected\n')
