// Makes files in a layer until its log has been emptied several times.
//
//     MAIN_SYNCS=FILE node emptied-log-program.ts DIRECTORY
//
// Prints by how many bytes FILE grew meanwhile.

import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { put } from './stored-layers.ts'
import { openLayer } from './open-layer.ts'
import { createIndex } from './tree-index.ts'

const [directory = ''] = process.argv.slice(2)
const [tree, layer] = [join(directory, 'tree'), join(directory, 'layer')]
for (const each of [tree, layer]) mkdirSync(each)
const syncs = () => statSync(process.env['MAIN_SYNCS'] ?? '').size

let emptied = 0
const opened = openLayer(layer, createIndex('tree', tree), {
  hold: (until) => void until.then(() => emptied++),
})
const { fileSystem } = opened
put(fileSystem, 'first', 'x')
await fileSystem.stable()
const before = syncs()
for (let number = 0; emptied < 3;) {
  for (let each = 0; each < 16; each++) put(fileSystem, `n${number++}`, 'x')
  await fileSystem.stable()
}
process.stdout.write(`${syncs() - before}\n`)
await opened.close()
