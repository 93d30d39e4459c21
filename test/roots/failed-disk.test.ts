// The disk fails to write data, or the server has no descriptors left.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs, { mkdirSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { promisify } from 'node:util'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

/** How many syncs succeed from now on before others fail. */
let successes = 0
/** How many syncs fail from then on. Simulated: no real disk fails on demand. */
let failures = 0
for (const name of ['fdatasync', 'fsync'] as const) {
  const sync = fs[name]
  mock.method(fs, name, (file: number, done: (error: Error | null) => void) => {
    if (failures === 0 || successes-- > 0) sync(file, done)
    else {
      failures--
      process.nextTick(done, Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }))
    }
  })
}
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

test('after its disk failed to write a long binding, the layer is as before, and can be bound again', async () => {
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
  const bind = async () => {
    try {
      return layers.open(b, 'next')
    } catch (error) {
      if (!(error instanceof UnfinishedBinding)) throw error
      return await error.makeReady(new AbortController().signal)
    }
  }
  // The log and the database as they were are on the disk, and the database that is bound is not.
  ;[successes, failures] = [2, 1]
  await assert.rejects(bind(), /i\/o error/)
  assert.equal(failures, 0)
  assert.ok(layers.isBoundTo(a))
  await bind()
  assert.ok(layers.isBoundTo(b))
})

test('a layer waits for descriptors, and goes on when there are some', async () => {
  const program = join(import.meta.dirname, 'support/few-descriptors-program.ts')
  const limited = 'ulimit -n 100 && exec "$0" "$@"'
  const args = ['-c', limited, process.execPath, program, temporaryDirectory()]
  const { stdout } = await promisify(execFile)('sh', args)
  assert.equal(stdout, 'went on\n')
})
