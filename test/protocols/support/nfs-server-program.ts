// The NFS server as a separate program, for the network namespaces of tests.
//
//     node nfs-server-program.ts ADDRESS PORTS PATH [LAYER TREE [LIMIT]]
//
// PORTS is the option `ports` of `startNfsServer`, as JSON. Every address may mount PATH. There it
// has a file system in memory, or the directory LAYER as a layer over the directory TREE. All that
// is in TREE/nix/store are store paths of the image. The layer takes at most LIMIT bytes. The
// program prints `50 operations` when it has done as many, then `100 operations`, and so on.

import { openLayer } from '../../roots/support/open-layer.ts'
import { startNfsServer } from '../../../src/protocols/nfs/server.ts'
import { indexWithStore } from '../../roots/support/index-with-store.ts'
import { createMemoryFileSystem } from './memory-file-system.ts'

const [address = '', ports = '', path = '', layer, tree = '', limit] = process.argv.slice(2)

const fileSystem =
  layer === undefined
    ? createMemoryFileSystem()
    : openLayer(layer, indexWithStore(tree), limit === undefined ? {} : { most: Number(limit) })
        .fileSystem
const machine = {
  name: 'any',
  exports: [{ path, layer: 'layer', fileSystem }],
}
let operations = 0
await startNfsServer({
  address,
  ports: JSON.parse(ports),
  machineOf: () => machine,
  handleKey: Buffer.alloc(32, 7),
  report: (event) => void process.stdout.write(`${JSON.stringify(event)}\n`),
  observe() {
    if (++operations % 50 === 0) process.stdout.write(`${operations} operations\n`)
  },
  onError: (error) => void process.stdout.write(`error: ${error.message}\n`),
})
process.stdout.write('ready\n')
