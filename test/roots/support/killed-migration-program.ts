// Opens a layer of format 1, and kills itself before the new record gets its name, or after.
//
//     node killed-migration-program.ts STATE TREE before|after

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'

const [state = '', tree = '', when = ''] = process.argv.slice(2)
const { renameSync } = fs
let renamed = 0
mock.method(fs, 'renameSync', (from: string, to: string) => {
  // The first new record only notes the use.
  if (++renamed === 1) return renameSync(from, to)
  if (when === 'after') renameSync(from, to)
  process.kill(process.pid, 'SIGKILL')
})
syncBuiltinESMExports()
const { openMachineLayerNow } = await import('./open-layer.ts')
const { oldIndex, oldRequest } = await import('./old-layer.ts')

openMachineLayerNow(oldRequest(state, oldIndex(tree)))
