// A machine fills the disk of the state directory until its writes are refused. Then the server
// must still record leases and boots, and open the layer of another machine. When the machine
// removes a file, it can write again. Fails with an error.
//
//     node floor-program.ts DISK TREE log | copy | files
//
// DISK: a small file system, in a mount namespace of its own.

import assert from 'node:assert/strict'
import { statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import { readBoots } from '../../../src/boots/read.ts'
import { errnoOf } from '../../../src/errors.ts'
import { openLeaseFile } from '../../../src/protocols/dhcp/lease-file.ts'
import { openBootRecord } from '../../boots/support/record.ts'
import { put } from './stored-layers.ts'
import { createIndex } from './tree-index.ts'
import { openMachineLayerNow } from './open-layer.ts'

const [disk = '', tree = '', way = ''] = process.argv.slice(2)
const index = createIndex('tree', tree)
const image = { directory: tree, name: 'tree', toplevel: '/nix/store/tree' }
const open = (machine: string) => openMachineLayerNow({ state: disk, machine, image, index })
const leases = openLeaseFile(join(disk, 'leases.sqlite'), assert.ifError)
const boots = openBootRecord(disk, assert.ifError)
const layer = open('10.0.0.7')
const { fileSystem } = layer
const { root } = fileSystem
const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
const large = fileSystem.lookup(root, Buffer.from('large')) ?? 0
const first = put(fileSystem, 'first', 'x'.repeat(500_000))
const chunk = Buffer.alloc(32 * 1024, 'log')

const fillers: Record<string, (step: number) => void> = {
  log: (step) => fileSystem.write(first, step * chunk.length, chunk),
  copy: (step) => fileSystem.write(large, step * chunk.length, chunk),
  files: (step) => void put(fileSystem, `file-${step}`, 'x'),
}
const fill = fillers[way]
assert.ok(fill)
if (way === 'copy') {
  // The copy would fit, but leave no room for the server.
  const { bavail, bsize } = statfsSync(disk)
  const left = fileSystem.attributes(large).size + 65_536
  writeFileSync(join(disk, 'ballast'), Buffer.alloc(bavail * bsize - left))
}

/** @returns the error that the machine gets when the disk is full */
async function fillUp(write: (step: number) => void): Promise<unknown> {
  for (let step = 0; ; step++) {
    try {
      write(step)
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN') return error
      await turn()
    }
  }
}
assert.equal(errnoOf(await fillUp(fill)), 'ENOSPC')
await fileSystem.stable()
if (way === 'log') {
  assert.ok(fileSystem.space().available < chunk.length + 8192)
  // Overwriting takes no room.
  for (let at = 0; at < fileSystem.attributes(first).size - chunk.length; at += chunk.length) {
    fileSystem.write(first, at, Buffer.alloc(chunk.length, 'LOG'))
    // A server waits for this when the log of the layer is long. Then the log is emptied.
    await fileSystem.stable()
  }
  // Names take room, too, but less than data: some still fit.
  const name = (step: number) => Buffer.from(`name-${step}`)
  const naming = {
    create: (step: number) => void fileSystem.create(root, name(step), made),
    link: (step: number) => fileSystem.link(first, root, name(step + 1000)),
  }
  for (const take of Object.values(naming)) {
    assert.equal(errnoOf(await fillUp(take)), 'ENOSPC')
  }
  for (let step = 1000; fileSystem.lookup(root, name(step)) !== undefined; step++) {
    fileSystem.remove(root, name(step))
  }
}
if (way === 'files') assert.equal(fileSystem.space().freeFiles, 0)

// The server has room for its own files.
const now = Date.now()
for (let address = 0; address < 20; address++) {
  const mac = `02:00:00:00:00:${address.toString(16).padStart(2, '0')}`
  leases.write({ mac, address, expires: now })
  const boot = {
    machine: mac,
    started: now,
    step: 'dhcp',
    steps: {},
    lastSign: now,
    bytes: 0,
  } as const
  boots.add(boot, { kind: 'root', step: 'init', mac }, now, true)
}
await turn()
const reader = new DatabaseSync(join(disk, 'leases.sqlite'), { readOnly: true })
assert.equal(reader.prepare('SELECT * FROM leases').all().length, 20)
reader.close()
assert.equal(readBoots(disk, undefined, 100).length, 20)
const other = open('10.0.0.8')
await other.close()

// Removing is never refused, and frees room to write again.
fileSystem.remove(root, Buffer.from('first'))
for (let step = 0; step < 100; step++) {
  const name = Buffer.from(`file-${step}`)
  if (fileSystem.lookup(root, name) !== undefined) fileSystem.remove(root, name)
}
await fileSystem.stable()
await fileSystem.commit(put(fileSystem, 'after', 'text'))
await layer.close()
leases.close()
boots.close()
process.stdout.write('went on\n')
