// One of several processes of a server. It serves the root of one machine, which makes files in it.
//
//     layer-program.ts STATE IMAGE ADDRESS
//
// For each name that its parent sends, it makes a file, and answers when the file is on the disk.

import { identitiesOf } from './identities.ts'
import { openMachines, rootOf } from './machines.ts'

const [state = '', image = '', address = ''] = process.argv.slice(2)
const opened = await openMachines(state, [image], identitiesOf())
const { fileSystem } = await rootOf(opened, address)
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

process.on('message', (name: string) => {
  fileSystem.create(fileSystem.root, Buffer.from(name), file)
  void fileSystem.stable().then(() => process.send?.(name))
})
process.send?.('ready')
