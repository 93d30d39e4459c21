// An NFS server on any free port of the loopback interface, over a file system in memory.

import type { ServeEvent } from '../../../src/protocols/event.ts'
import type { NfsExport, NfsMachine } from '../../../src/protocols/nfs/machine.ts'
import { startNfsServer, type NfsServerOptions } from '../../../src/protocols/nfs/server.ts'
import { createMemoryFileSystem, type MemoryFileSystem } from './memory-file-system.ts'
import { connectNfs, type NfsClient } from './nfs-client.ts'

export const handleKey = Buffer.alloc(32, 'key')

export type TestServer = {
  port: number
  fileSystem: MemoryFileSystem
  events: ServeEvent[]
  errors: string[]
  close: () => Promise<void>
  [Symbol.asyncDispose]: () => Promise<void>
}

export async function startTestServer({
  fileSystem = createMemoryFileSystem(),
  ...options
}: Partial<NfsServerOptions> & {
  fileSystem?: MemoryFileSystem
} = {}): Promise<TestServer> {
  const events: ServeEvent[] = []
  const errors: string[] = []
  const machine = machineWith(exportOf(fileSystem))
  const server = await startNfsServer({
    address: '127.0.0.1',
    ports: { nfs: 0 },
    machineOf: () => machine,
    handleKey,
    report: (event) => events.push(event),
    onError: (error) => errors.push(error.message),
    ...options,
  })
  const { close } = server
  return {
    ...{ port: server.ports.nfs, fileSystem, events, errors, close },
    [Symbol.asyncDispose]: close,
  }
}

export const exportPath = '/srv/pi'

export function exportOf(fileSystem: MemoryFileSystem, names: Partial<NfsExport> = {}): NfsExport {
  return { path: exportPath, layer: 'pi', fileSystem, ...names }
}

export function machineWith(...exports: NfsExport[]): NfsMachine {
  return { name: 'pi', mac: '02:00:00:00:00:01', exports }
}

/** A server, a client, and the handle of the mounted root. */
export async function serveToClient(
  options?: Parameters<typeof startTestServer>[0],
): Promise<{ server: TestServer; client: NfsClient; root: Buffer } & AsyncDisposable> {
  const server = await startTestServer(options)
  const client = await connectNfs(server.port)
  const { handle: root } = await client.mount(exportPath)
  return {
    ...{ server, client, root },
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]()
      await server.close()
    },
  }
}
