// Truncates a file and keeps the reply, and kills itself right before the file is cut off.
//
//     node killed-cut-program.ts LAYER TREE

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'
import { openLayer } from './open-layer.ts'
import { put } from './stored-layers.ts'
import { createIndex } from './tree-index.ts'

const [directory = '', tree = ''] = process.argv.slice(2)
const { fileSystem: system } = openLayer(directory, createIndex('tree', tree))
const file = put(system, 'file', 'text that is cut off')
await system.commit(file)
mock.method(fs, 'ftruncateSync', () => process.kill(process.pid, 'SIGKILL'))
syncBuiltinESMExports()
system.together(() => {
  system.setAttributes(file, { size: 4 })
  system.rememberReply(Buffer.from('request'), Buffer.from('reply'))
})
