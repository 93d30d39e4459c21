// What is synced while a layer is opened, used and closed. The server answers no other machine while it waits
// for the disk on its main thread.

import assert from 'node:assert/strict'
import fs, { existsSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'
import { mock, test } from 'node:test'
import { temporaryDirectory } from '../support/temporary.ts'

const state = join(temporaryDirectory(), 'state')
const layer = join(state, 'layers/10.0.0.7/root')

/** Paths that our own code synced on the main thread. SQLite's own syncs are not counted. */
let blocking: string[] = []
/** What was synced in threads, and whether there was a record of the layer already. */
let inThreads: { path: string; hasRecord: boolean }[] = []
const pathOf = (file: number) => readlinkSync(`/proc/self/fd/${file}`)
const note = (file: number) =>
  inThreads.push({ path: pathOf(file), hasRecord: existsSync(join(layer, 'record.json')) })

const { fsyncSync, fdatasyncSync, fsync, fdatasync, writeFileSync: write } = fs
mock.method(fs, 'fsyncSync', (file: number) => {
  blocking.push(pathOf(file))
  fsyncSync(file)
})
mock.method(fs, 'fdatasyncSync', (file: number) => {
  blocking.push(pathOf(file))
  fdatasyncSync(file)
})
mock.method(fs, 'writeFileSync', (...given: Parameters<typeof write>) => {
  const [path, , options] = given
  if (typeof options === 'object' && options?.flush) blocking.push(String(path))
  write(...given)
})
mock.method(fs, 'fsync', (...given: Parameters<typeof fsync>) => {
  note(given[0])
  fsync(...given)
})
mock.method(fs, 'fdatasync', (...given: Parameters<typeof fdatasync>) => {
  note(given[0])
  fdatasync(...given)
})
syncBuiltinESMExports()
await using any = await openFile(import.meta.dirname)
const handles: { sync: () => Promise<void>; fd: number } = Object.getPrototypeOf(any)
const { sync } = handles
mock.method(handles, 'sync', function (this: typeof any) {
  note(this.fd)
  return sync.call(this)
})

const { createIndex } = await import('./support/tree-index.ts')
const { openMachineLayer, UnfinishedOpening } = await import('../../src/roots/machine-layer.ts')
const { UnreadyLayer } = await import('../../src/roots/unready-layer.ts')
const { put, read } = await import('./support/stored-layers.ts')

const tree = join(temporaryDirectory(), 'tree')
mkdirSync(join(tree, 'etc'), { recursive: true })
for (const name of ['a', 'b', 'c', 'd'])
  writeFileSync(join(tree, 'etc', name), `of the image: ${name}`)
const index = createIndex('tree', tree)
const image = { directory: tree, name: 'tree', toplevel: '/nix/store/tree' }
const request = (boot: string) => ({ state, machine: '10.0.0.7', image, index, boot })
const above = [dirname(layer), dirname(dirname(layer)), state]

/** @returns also whether the layer was open at once */
async function open(boot: string) {
  const opened = openMachineLayer(request(boot))
  if (!(opened instanceof UnreadyLayer)) return { isAtOnce: true, opened }
  assert.ok(opened instanceof UnfinishedOpening)
  await opened.makeReady(new AbortController().signal)
  return { isAtOnce: false, opened: opened.opened ?? assert.fail() }
}

/** The paths that were synced in threads since it was last called. */
function takePaths(): string[] {
  const paths = inThreads.map(({ path }) => path)
  inThreads = []
  return paths
}

interface Opening {
  boot: string
  /** The file of the image that the machine writes to. */
  name: string
  /** Whether the layer is bound for another boot. */
  isBound: boolean
}

const openings: Opening[] = [
  { boot: '1', name: 'a', isBound: true },
  { boot: '2', name: 'b', isBound: true },
  // The server starts again, and the machine goes on.
  { boot: '2', name: 'c', isBound: false },
]

test('a layer waits for the disk in threads, and only if a machine boots', async () => {
  for (const [place, { boot, name, isBound }] of openings.entries()) {
    const { isAtOnce, opened } = await open(boot)
    assert.equal(isAtOnce, !isBound)
    const contents = join(layer, opened.name)
    const log = join(contents, 'layer.sqlite-wal')
    if (place === 0) {
      // The record must be written only after the directories above it are on the disk.
      const early = inThreads.filter(({ hasRecord }) => !hasRecord).map(({ path }) => path)
      assert.deepEqual(new Set(early.slice(0, above.length)), new Set(above))
    }
    const atOpening = takePaths()
    assert.equal(atOpening.includes(log), isBound)
    if (place > 0) assert.ok(above.every((path) => !atOpening.includes(path)))

    const { fileSystem: system } = opened
    const file = put(system, `etc/${name}`, 'OF')
    assert.deepEqual(takePaths(), [])
    await system.stable()
    const written = takePaths()
    // What the log refers to must be on the disk before the log is.
    for (const path of [contents, join(contents, 'data'), dataOf(contents, file)]) {
      assert.ok(written.includes(path), path)
      assert.ok(written.indexOf(path) < written.lastIndexOf(log), path)
    }
    await opened.close()
    assert.ok(takePaths().includes(join(contents, 'layer.sqlite')))
  }
  assert.deepEqual(blocking, [])
})

test('the size of a copy is set only when the copy is on the disk: a reply may be repeated after a kill', async () => {
  const { opened } = await open('3')
  const { fileSystem: system } = opened
  for (const { name } of openings)
    assert.equal(read(system, `etc/${name}`), `OF the image: ${name}`)
  const file = put(system, 'etc/d', 'OF')
  system.setAttributes(file, { size: 2 })
  const contents = join(layer, opened.name)
  assert.deepEqual(blocking, [dataOf(contents, file), join(contents, 'data')])
  await opened.close()
})

const dataOf = (contents: string, node: number) => join(contents, 'data', node.toString(16))
