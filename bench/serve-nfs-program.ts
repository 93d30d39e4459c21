/** Our NFS server for bench/serve-nfs.ts: it serves an empty layer over a tree. */
import { openLayer } from '../test/roots/support/open-layer.ts'
import { startNfsServer } from '../src/protocols/nfs/server.ts'
import { createIndex } from '../test/roots/support/tree-index.ts'

const [address = '', port = '', tree = '', layer = ''] = process.argv.slice(2)
const { fileSystem } = openLayer(layer, createIndex('tree', tree))
const exports = [{ path: '/tree', layer: 'bench', fileSystem }]
const machine = { name: 'bench', exports }
await startNfsServer({
  address,
  ports: { nfs: Number(port) },
  machineOf: () => machine,
  handleKey: Buffer.alloc(32),
  report: () => {},
  onError: (error) => void process.stderr.write(`${error.message}\n`),
})
process.stdout.write('ready\n')
