// The disk fails to write data, or the server has no descriptors left.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs, { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { promisify } from 'node:util'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

/** How many syncs succeed from now on before others fail. */
let successes = 0
/** How many syncs fail from then on. Simulated: no real disk fails on demand. */
let failures = 0
const { fdatasync } = fs
mock.method(fs, 'fdatasync', (file: number, done: (error: Error | null) => void) => {
  if (failures === 0 || successes-- > 0) fdatasync(file, done)
  else {
    failures--
    process.nextTick(done, Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
  }
})
syncBuiltinESMExports()
const { createIndex } = await import('./support/tree-index.ts')
const { openLayer } = await import('./support/open-layer.ts')
const { find, put } = await import('./support/stored-layers.ts')
const { makeBoundLayers, treeOf } = await import('./support/bound-layer.ts')
const { UnfinishedBinding } = await import('../../src/roots/unfinished-binding.ts')

const freshName = freshNames(temporaryDirectory())

for (const what of ['data', 'structure'] as const) {
  test(`after its disk failed to write ${what}, a layer is not changed any more`, async () => {
    const [tree, directory] = [freshName(), freshName()]
    for (const each of [tree, directory]) mkdirSync(each)
    const index = createIndex('tree', tree)
    let layer = openLayer(directory, index)
    const file = put(layer.fileSystem, 'file', 'text')
    await layer.fileSystem.commit(file)
    const write = () => layer.fileSystem.write(file, 0, Buffer.from('lost'))
    const wait = () => (what === 'data' ? layer.fileSystem.commit(file) : layer.fileSystem.stable())
    const failed = { code: 'EIO' }
    write()
    failures = 1
    await assert.rejects(wait(), failed)
    assert.equal(failures, 0)
    await assert.rejects(wait(), failed)
    assert.throws(write, failed)
    await assert.rejects(layer.close(), failed)
    // As at the next boot of the machine, in the same server.
    layer = openLayer(directory, index)
    await assert.rejects(wait(), failed)
    assert.throws(write, failed)
    const text = Buffer.alloc(4)
    assert.equal(layer.fileSystem.read(file, 0, text), 4)
    await assert.rejects(layer.close(), failed)
  })
}

test('after its disk failed to write a long binding, the layer is bound, but only after a restart', async () => {
  const layers = makeBoundLayers(freshName())
  const a = layers.image('a', treeOf({ same: '1' }), { p: { file: 'P' } })
  const b = layers.image('b', treeOf({ same: '2' }), { p: { file: 'P' } })
  const before = layers.open(a)
  const { fileSystem: system } = before
  const at = find(system, 'nix/store/p') ?? assert.fail()
  system.together(() => {
    const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
    for (let number = 0; number < 3000; number++) system.create(at, Buffer.from(`n${number}`), made)
  })
  await before.close()
  const onDisk = readFileSync(join(layers.directory, 'layer.sqlite'))
  let unfinished: unknown
  try {
    layers.open(b, 'next')
  } catch (error) {
    unfinished = error
  }
  assert.ok(unfinished instanceof UnfinishedBinding)
  // The log is written, and the database is not.
  ;[successes, failures] = [1, 1]
  await assert.rejects(unfinished.makeReady(new AbortController().signal), { code: 'EIO' })
  assert.equal(failures, 0)
  assert.throws(() => layers.open(b, 'next'), /locked/)
  const restarted = freshName()
  mkdirSync(restarted)
  cpSync(layers.directory, join(restarted, 'layer'), { recursive: true })
  // What the disk failed to write is gone.
  writeFileSync(join(restarted, 'layer/layer.sqlite'), onDisk)
  assert.ok(layers.at(restarted).isBoundTo(b))
})

test('a layer waits for descriptors, and goes on when there are some', async () => {
  const program = join(import.meta.dirname, 'support/few-descriptors-program.ts')
  const limited = 'ulimit -n 100 && exec "$0" "$@"'
  const args = ['-c', limited, process.execPath, program, temporaryDirectory()]
  const { stdout } = await promisify(execFile)('sh', args)
  assert.equal(stdout, 'went on\n')
})
