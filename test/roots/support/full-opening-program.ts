// Opens layers on a disk that has less and less room. Fails with an error.
//
//     node full-opening-program.ts DISK TREES new | old
//
// DISK: a small file system, in a mount namespace of its own. TREES: an empty directory elsewhere.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NetimageError } from '../../../src/errors.ts'
import {
  openMachineLayer,
  UnfinishedOpening,
  type MachineLayerRequest,
} from '../../../src/roots/machine-layer.ts'
import { UnreadyLayer } from '../../../src/roots/unready-layer.ts'
import { fillDisk } from '../../support/fill-disk.ts'
import { contentsOf, directoryOf, oldIndex, oldRequest, writeOldLayer } from './old-layer.ts'
import { createIndex } from './tree-index.ts'

const [disk = '', trees = '', way = ''] = process.argv.slice(2)
const kibibyte = 1024
const state = join(disk, 'state')
const ballast = join(disk, 'ballast')
if (way === 'new') await openNew()
else await openOld()

/** The layer of a new machine needs some hundred kibibytes for its numbers. */
async function openNew(): Promise<void> {
  const tree = join(trees, 'tree')
  const storePaths = Array.from({ length: 3000 }, (_, place) => ({
    name: `${String(place).padStart(32, '0')}-path`,
    narHash: `sha256:${String(place).padStart(52, '0')}`,
  }))
  for (const { name } of storePaths) mkdirSync(join(tree, 'nix/store', name), { recursive: true })
  const index = createIndex('b'.repeat(64), tree, { storePaths })
  const image = { directory: tree, name: 'pi', toplevel: '/nix/store/system' }
  const request = { state, machine: '10.0.0.7', image, index }
  fillDisk(ballast)
  for (let count = 0; count < 3; count++) assert.equal(await opens(request), false)
  const directory = join(state, 'layers/10.0.0.7/root')
  assert.deepEqual(readdirSync(directory), [])
  for (let left = 0; left <= 1000; left += 120) {
    fillDisk(ballast, left * kibibyte)
    if (await opens(request)) {
      assert.ok(left > 100, `${left} KiB are enough`)
      process.stdout.write('opened\n')
      return
    }
  }
}

/** The migration of a layer needs some room, too. The layer that is migrated has a reserve. */
async function openOld(): Promise<void> {
  const old = writeOldLayer('script', { state, tree: join(trees, 'old') })
  const request = oldRequest(state, oldIndex(old.tree))
  fillDisk(ballast)
  for (let count = 0; count < 5; count++) assert.equal(await opens(request), false)
  const directory = directoryOf(old)
  const known = [contentsOf(old), join(directory, 'record.json')]
  assert.deepEqual(
    readdirSync(directory)
      .map((name) => join(directory, name))
      .sort(),
    known.sort(),
  )
  const reserve = join(contentsOf(old), 'reserve')
  rmSync(ballast)
  writeFileSync(reserve, Buffer.alloc(1024 * kibibyte))
  fillDisk(ballast)
  assert.equal(await opens(request), true)
  process.stdout.write('opened\n')
}

/** @returns as `opens` */
async function isReady(unready: UnreadyLayer, request: MachineLayerRequest): Promise<boolean> {
  try {
    await unready.makeReady(new AbortController().signal)
  } catch (error) {
    assert.ok(error instanceof NetimageError && error.code === 'disk-full', String(error))
    return false
  }
  if (!(unready instanceof UnfinishedOpening)) return await opens(request)
  await unready.opened?.close()
  return true
}

/** @returns false if the error says that the disk is full */
async function opens(request: MachineLayerRequest): Promise<boolean> {
  try {
    const layer = openMachineLayer(request)
    if (layer instanceof UnreadyLayer) return await isReady(layer, request)
    await layer.close()
    return true
  } catch (error) {
    assert.ok(error instanceof NetimageError && error.code === 'disk-full', String(error))
    return false
  }
}
