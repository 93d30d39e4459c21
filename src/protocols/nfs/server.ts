/** The NFS server: NFS version 3 over TCP, MOUNT and the port mapper over TCP and UDP. */
import { portMapper, portMapperProgram, type Registration } from '../rpc/port-mapper.ts'
import { startTcpServer, type RpcServer, type TcpServerOptions } from '../rpc/tcp-server.ts'
import { startUdpServer } from '../rpc/udp-server.ts'
import { mountProgram, mountVersion, nfsProgram, nfsVersion } from './protocol.ts'
import { createPrograms, onDefectOf, type NfsServiceOptions } from './service.ts'

export interface NfsServerOptions extends NfsServiceOptions {
  /** The IPv4 or IPv6 address to listen on. */
  address: string
  /** 0: any free port. */
  ports: {
    /** Default: no port mapper; then clients must be told the other ports. */
    portMapper?: number
    /** Also of MOUNT, over TCP and UDP. */
    nfs: number
  }
  signal?: AbortSignal
}

export interface NfsServer {
  ports: { portMapper?: number; nfs: number }
  close: () => Promise<void>
}

/** @throws `NetimageError` `cannot-listen` */
export async function startNfsServer(options: NfsServerOptions): Promise<NfsServer> {
  const { ports, signal } = options
  signal?.throwIfAborted()
  const { nfs, mount } = createPrograms(options)
  const started: RpcServer[] = []
  const close = async () => {
    await Promise.all(started.splice(0).map((server) => server.close()))
  }
  const shared = { ...options, onDefect: onDefectOf(options) }
  async function kept<Server extends RpcServer>(starting: Promise<Server>): Promise<Server> {
    const server = await starting
    started.push(server)
    return server
  }

  try {
    const both = { ...shared, name: 'NFS', hasLongCalls: true, programs: [nfs, mount] }
    const { port } = await kept(startTcpServer({ ...both, port: ports.nfs }))
    await kept(startUdpServer({ ...shared, name: 'MOUNT', programs: [mount], port }))

    let mapper: RpcServer | undefined
    if (ports.portMapper !== undefined) {
      const where = { port: ports.portMapper, nfs: port }
      mapper = await kept(startPortMapper({ ...shared, ...where }))
    }
    signal?.throwIfAborted()
    signal?.addEventListener('abort', () => void close(), { once: true })
    return {
      ports: { nfs: port, ...(mapper && { portMapper: mapper.port }) },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

type PortMapperOptions = Omit<TcpServerOptions, 'name' | 'programs' | 'hasLongCalls'> & {
  /** The port of NFS, and of MOUNT over TCP and UDP. */
  nfs: number
}

/** @throws `NetimageError` `cannot-listen` */
export async function startPortMapper(options: PortMapperOptions): Promise<RpcServer> {
  const { address, nfs } = options
  const registrations: Registration[] = []
  const mapper = portMapper(address, registrations)
  const shared = { ...options, name: 'The port mapper', programs: [mapper], hasLongCalls: false }
  const tcp = await startTcpServer(shared)
  const { port } = tcp
  try {
    const udp = await startUdpServer({ ...shared, port })
    const mount = { program: mountProgram, version: mountVersion, port: nfs }
    registrations.push(
      { program: nfsProgram, version: nfsVersion, transport: 'tcp', port: nfs },
      { ...mount, transport: 'tcp' },
      { ...mount, transport: 'udp' },
    )
    for (const version of mapper.versions.keys()) {
      for (const transport of ['tcp', 'udp'] as const) {
        registrations.push({ program: portMapperProgram, version, transport, port })
      }
    }
    return {
      port,
      async close() {
        await Promise.all([tcp.close(), udp.close()])
      },
    }
  } catch (error) {
    await tcp.close()
    throw error
  }
}
