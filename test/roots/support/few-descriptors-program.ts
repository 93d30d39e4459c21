// Works on a layer in a process that first has no descriptors left, and then has some again. Fails
// with an error.
//
//     node few-descriptors-program.ts DIRECTORY

import assert from 'node:assert/strict'
import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import { openLayer } from './open-layer.ts'
import { find, put, read } from './stored-layers.ts'
import { createIndex } from './tree-index.ts'

const [top = ''] = process.argv.slice(2)
const [tree, directory] = [join(top, 'tree'), join(top, 'layer')]
for (const each of [tree, directory]) mkdirSync(each)
writeFileSync(join(tree, 'image'), 'image')
const layer = openLayer(directory, createIndex('tree', tree))
const { fileSystem: system } = layer
const file = put(system, 'file', 'text')
await system.commit(file)

const taken: number[] = []
try {
  for (;;) taken.push(openSync('/dev/null', 'r'))
} catch (error) {
  assert.equal(errnoOf(error), 'EMFILE')
}
const image = find(system, 'image') ?? 0
const again = { code: 'EAGAIN' }
assert.throws(() => system.read(image, 0, Buffer.alloc(5)), again)
assert.throws(() => system.write(image, 0, Buffer.from('I')), again)
await assert.rejects(system.commit(file), again)
// The operation is committed: a machine that waits for the sync must not be told to do it again.
system.setAttributes(file, { size: 2 })
let isStable = false
const stable = system.stable().then(() => (isStable = true))
await new Promise((resolve) => setTimeout(resolve, 250))
assert.equal(isStable, false)

for (const descriptor of taken) closeSync(descriptor)
await stable
system.write(image, 0, Buffer.from('I'))
await system.commit(image)
await system.commit(file)
assert.deepEqual([read(system, 'image'), read(system, 'file')], ['Image', 'te'])
await layer.close()
assert.equal(readdirSync(join(directory, 'data')).length, 2)
process.stdout.write('went on\n')
