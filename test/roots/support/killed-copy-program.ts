// Writes to a large file of the image, and kills itself while the file is copied.
//
//     node killed-copy-program.ts LAYER TREE

import assert from 'node:assert/strict'
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openLayer } from './open-layer.ts'
import { find } from './stored-layers.ts'
import { createIndex } from './tree-index.ts'

const [directory = '', tree = ''] = process.argv.slice(2)
const { fileSystem: system } = openLayer(directory, createIndex('tree', tree))
const write = () => system.write(find(system, 'large') ?? 0, 0, Buffer.from('lost'))
assert.throws(write, { code: 'EAGAIN' })
for (;;) {
  const sizes = readdirSync(join(directory, 'data')).map(
    (name) => lstatSync(join(directory, 'data', name)).size,
  )
  if (sizes.some((size) => size > 0)) process.kill(process.pid, 'SIGKILL')
  await new Promise((resolve) => setImmediate(resolve))
}
