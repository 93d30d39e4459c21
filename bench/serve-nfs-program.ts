/** Our NFS server as bench/serve-nfs.ts wants it: over a copy of a tree of two levels in memory. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { startNfsServer } from '../src/serve/nfs/server.ts'
import { createMemoryFileSystem } from '../test/serve/support/memory-file-system.ts'

const [address = '', port = '', tree = ''] = process.argv.slice(2)
const fileSystem = createMemoryFileSystem()

function copy(source: string, directory: number): void {
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    const path = join(source, entry.name)
    const kind = entry.isDirectory() ? 'directory' : 'file'
    const node = { kind, mode: 0o755, uid: 0, gid: 0 } as const
    const made = fileSystem.create(directory, Buffer.from(entry.name), node)
    if (kind === 'directory') copy(path, made)
    else fileSystem.write(made, 0, readFileSync(path))
  }
}

copy(tree, fileSystem.root)
const exports = [{ path: '/tree', layer: 'bench', image: 'bench', fileSystem }]
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
