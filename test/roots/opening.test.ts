// The syncs while a layer is opened: the server serves no other machine meanwhile.

import assert from 'node:assert/strict'
import fs, { existsSync, mkdirSync, readlinkSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'
import { mock, test } from 'node:test'
import { temporaryDirectory } from '../support/temporary.ts'

/** What our own code synced on the main thread. SQLite's own syncs are not counted. */
let synced: { path: string; hasRecord: boolean }[] = []
const state = join(temporaryDirectory(), 'state')
const layer = join(state, 'layers/10.0.0.7/root')
const { fsyncSync } = fs
mock.method(fs, 'fsyncSync', (file: number) => {
  const path = readlinkSync(`/proc/self/fd/${file}`)
  synced.push({ path, hasRecord: existsSync(join(layer, 'record.json')) })
  fsyncSync(file)
})
syncBuiltinESMExports()
const { createIndex } = await import('./support/tree-index.ts')
const { openMachineLayer } = await import('../../src/roots/machine-layer.ts')

test('a layer that was opened before waits for no directory above it', async () => {
  const tree = join(temporaryDirectory(), 'tree')
  mkdirSync(tree)
  const index = createIndex('tree', tree)
  const image = { directory: tree, name: 'tree', toplevel: '/nix/store/tree' }
  const open = () => openMachineLayer({ state, machine: '10.0.0.7', image, index })
  const above = [dirname(layer), dirname(dirname(layer)), state]

  const first = open()
  const contents = join(layer, first.name)
  await first.close()
  // The record must be written only after the directories above it are on the disk.
  const early = synced.filter(({ hasRecord }) => !hasRecord).map(({ path }) => path)
  assert.deepEqual(early.slice(0, above.length), above)
  assert.equal(synced.filter(({ path }) => path === contents).length, 1)

  synced = []
  const again = open()
  const paths = synced.map(({ path }) => path)
  const lasting = paths.filter((path) => !path.includes('/.new-record-'))
  assert.deepEqual(lasting.slice(-2), [contents, layer])
  assert.ok(
    above.every((path) => !paths.includes(path)),
    paths.join(' '),
  )
  await again.close()
})
