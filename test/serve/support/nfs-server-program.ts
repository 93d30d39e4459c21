// The NFS server as a program of its own, for networks of tests, over a file system in memory.
//
//     node nfs-server-program.ts ADDRESS PORTS PATH
//
// PORTS is what `startNfsServer` takes as such, as JSON. Every address may mount PATH.

import { startNfsServer } from '../../../src/serve/nfs/server.ts'
import { createMemoryFileSystem } from './memory-file-system.ts'

const [address = '', ports = '', path = ''] = process.argv.slice(2)

const fileSystem = createMemoryFileSystem()
const machine = {
  name: 'any',
  exports: [{ path, layer: 'layer', image: 'image', fileSystem }],
}
await startNfsServer({
  address,
  ports: JSON.parse(ports),
  machineOf: () => machine,
  handleKey: Buffer.alloc(32, 7),
  report: (event) => void process.stdout.write(`${JSON.stringify(event)}\n`),
  onError: (error) => void process.stdout.write(`error: ${error.message}\n`),
})
process.stdout.write('ready\n')
