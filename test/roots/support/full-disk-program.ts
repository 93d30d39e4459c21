// Works on a layer whose disk is full, again and again. Fails with an error.
//
//     node full-disk-program.ts DISK TREE
//
// DISK: a small file system, in a mount namespace of its own.

import assert from 'node:assert/strict'
import fs, { mkdirSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock } from 'node:test'
import { errnoOf } from '../../../src/errors.ts'
import type { FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'
import { openLayer, openMachineLayerNow } from './open-layer.ts'
import { verifyLayer } from '../../../src/roots/verify.ts'
import { fillDisk } from '../../support/fill-disk.ts'
import { createIndex } from './tree-index.ts'

const [disk = '', tree = ''] = process.argv.slice(2)
// As if other programs filled the disk right after each look of the layer: the layer always sees
// free room, and the kernel refuses the writes that do not fit.
const { statfsSync } = fs
mock.method(fs, 'statfsSync', (path: string) => {
  const found = statfsSync(path)
  const more = Math.ceil(found.blocks / 64) + 128
  return Object.assign(found, { bfree: found.bfree + more, bavail: found.bavail + more })
})
syncBuiltinESMExports()
const directory = join(disk, 'layer')
const ballast = join(disk, 'ballast')
const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
mkdirSync(directory)
const index = createIndex('tree', tree)
const rounds = 40
let refused = 0

let layer = openLayer(directory, index)
for (let round = 0; round < rounds; round++) {
  const { fileSystem } = layer
  const log = fileSystem.create(fileSystem.root, Buffer.from('log'), made)
  fileSystem.write(log, 0, Buffer.alloc(5000))
  fillDisk(ballast, (round % 10) * 4096)
  for (let step = 0; step < 30; step++) attempt(fileSystem, act(fileSystem, round, step))
  await fileSystem.stable()
  // Removing and truncating still work on the full disk.
  fillDisk(ballast)
  fileSystem.setAttributes(log, { size: 0 })
  for (const name of namesIn(fileSystem).slice(0, 10)) remove(fileSystem, name)
  await fileSystem.stable()
  rmSync(ballast)
  // There is room again, and writing works.
  const file = fileSystem.create(fileSystem.root, Buffer.from(`after-${round}`), made)
  fileSystem.write(file, 0, Buffer.alloc(5000, round))
  await fileSystem.commit(file)
  const before = describe(fileSystem)
  await layer.close()
  assert.deepEqual(verifyLayer(directory, index).problems, [])
  layer = openLayer(directory, index)
  assert.deepEqual(describe(layer.fileSystem), before)
  for (const name of namesIn(layer.fileSystem)) remove(layer.fileSystem, name)
  await layer.fileSystem.stable()
}
await layer.close()

// On a full disk, a machine can still open its layer, and the layer can be reset.
const machine = '10.0.0.7'
const image = { directory: tree, name: 'tree', toplevel: '/nix/store/tree' }
const openAgain = (reset?: 'now') =>
  openMachineLayerNow({ state: disk, machine, image, index, reset })
const first = openAgain()
const kept = first.fileSystem.create(first.fileSystem.root, Buffer.from('kept'), made)
await first.fileSystem.commit(kept)
const own = first.fileSystem.create(first.fileSystem.root, Buffer.from('own'), made)
first.fileSystem.write(own, 0, Buffer.alloc(1 << 20, 'own'))
await first.fileSystem.commit(own)
await first.close()
fillDisk(ballast)
const second = openAgain()
assert.ok(second.fileSystem.lookup(second.fileSystem.root, Buffer.from('kept')))
remove(second.fileSystem, Buffer.from('kept'))
await second.close()
// The removal has used up the reserve, so there must be room for the new record. The new contents get
// the room of the old ones.
fillDisk(ballast, 4096)
const third = openAgain('now')
const isEmpty = namesIn(third.fileSystem).length === 0
await third.close()
assert.ok(isEmpty)
process.stdout.write(`refused ${refused}\n`)

function namesIn(system: FileSystem): Buffer[] {
  const names = [...system.list(system.root, 0)].map(({ name }) => name)
  return names.filter((name) => name.toString() !== 'large')
}

/** Removes a name as a machine does it: together with the reply, which is kept. */
function remove(system: FileSystem, name: Buffer): void {
  system.together(() => {
    system.remove(system.root, name)
    system.rememberReply(Buffer.from(`removed ${name.toString()}`), Buffer.alloc(200))
  })
}

/** Checks that the action is done completely or not at all. */
function attempt(system: FileSystem, action: () => void): void {
  const before = describe(system)
  try {
    action()
  } catch (error) {
    assert.equal(errnoOf(error), 'ENOSPC', String(error))
    refused++
    const after = describe(system)
    assert.deepEqual(after, before)
  }
}

function act(system: FileSystem, round: number, step: number): () => void {
  const { root } = system
  const name = Buffer.from(`${round}-${step}-${'long'.repeat(50)}`)
  const large = system.lookup(root, Buffer.from('large'))
  const log = system.lookup(root, Buffer.from('log'))
  switch (step % 6) {
    case 0:
      return () => system.create(root, name, made)
    case 1:
      // A file of the image: its data is copied first.
      return () => system.write(large ?? 0, 10, Buffer.from('x'))
    case 2:
      return () => system.create(root, name, { ...made, kind: 'symlink', target: name })
    case 3:
      // The operation and its reply are kept both, or neither.
      return () =>
        system.together(() => {
          system.create(root, name, made)
          system.rememberReply(name, Buffer.alloc(2000))
        })
    case 4:
      // If the reply does not fit, the size is as before.
      return () =>
        system.together(() => {
          system.setAttributes(log ?? 0, { size: system.attributes(log ?? 0).size + 1 })
          system.rememberReply(name, Buffer.alloc(2000))
        })
    default:
      return () =>
        system.together(() => {
          system.rename(root, Buffer.from('large'), root, name)
          system.rename(root, name, root, Buffer.from('large'))
        })
  }
}

function describe(system: FileSystem): unknown {
  const { links, modified, changed } = system.attributes(system.root)
  const nodes = [...system.list(system.root, 0)].map(({ name, node, cookie }) => ({
    ...{ name: name.toString(), cookie },
    attributes: withoutData(system, node),
    reply: system.recallReply(name)?.length,
  }))
  return { links, modified, changed, nodes }
}

function withoutData(system: FileSystem, node: NodeId): unknown {
  // A time may have changed before the disk refused the data.
  const { kind, size, links, mode } = system.attributes(node)
  const beginning = Buffer.alloc(64)
  if (kind === 'file') system.read(node, 0, beginning)
  return { kind, size, links, mode, beginning: beginning.toString('latin1') }
}
