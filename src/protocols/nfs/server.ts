/** The NFS server: NFS version 3 over TCP, MOUNT and the port mapper over TCP and UDP. */
import { defect } from '../defect.ts'
import type { Listener } from '../listen.ts'
import type { OnDefect } from '../rpc/program.ts'
import { portMapper, portMapperProgram, type Registration } from '../rpc/port-mapper.ts'
import { startTcpServer, type TcpServerOptions } from '../rpc/tcp-server.ts'
import { createAnswerDatagram, listenUdp } from '../rpc/udp-server.ts'
import { listenTcp } from '../tcp-listener.ts'
import { mountProgram, mountVersion, nfsProgram, nfsVersion } from './protocol.ts'
import { createNfsService, type NfsService, type NfsServiceOptions } from './service.ts'

export interface NfsListenerOptions extends Pick<NfsServiceOptions, 'hears' | 'clientAt'> {
  /** The IPv4 or IPv6 address to listen on. */
  address: string
  /** 0: any free port. */
  ports: {
    /** Default: no port mapper; then clients must be told the other ports. */
    portMapper?: number | undefined
    /** Also of MOUNT, over TCP and UDP. */
    nfs: number
  }
  /** Nothing is read from a new connection, so that it can be given to another process. */
  pauseOnConnect?: boolean
  onDefect: OnDefect
}

export interface NfsServerOptions
  extends NfsServiceOptions, Pick<NfsListenerOptions, 'address' | 'ports'> {
  signal?: AbortSignal
}

export interface NfsServer {
  ports: { portMapper: number | undefined; nfs: number }
  /** Also closes the service. */
  close: () => Promise<void>
}

/** @throws `NetimageError` `cannot-listen` */
export async function startNfsServer(options: NfsServerOptions): Promise<NfsServer> {
  const { onError, signal } = options
  signal?.throwIfAborted()
  const onDefect = (error: unknown) => onError(defect('NFS', error))
  const server = await listenNfs({ ...options, onDefect }, createNfsService(options))
  if (signal?.aborted) await server.close()
  signal?.throwIfAborted()
  signal?.addEventListener('abort', () => void server.close(), { once: true })
  return server
}

/**
 * Opens the ports of a service.
 *
 * @throws `NetimageError` `cannot-listen`
 */
export async function listenNfs(
  options: NfsListenerOptions,
  service: NfsService,
): Promise<NfsServer> {
  const { ports, onDefect } = options
  const opened: Listener[] = []
  const close = async () => {
    await Promise.all(opened.splice(0).map((listener) => listener.close()))
  }
  async function kept(opening: Promise<Listener>): Promise<number> {
    const listener = await opening
    opened.push(listener)
    return listener.port
  }

  try {
    const tcp = { ...options, name: 'NFS (TCP)', port: ports.nfs, onError: onDefect }
    const nfs = await kept(listenTcp(tcp, service))
    await kept(listenUdp({ ...options, name: 'MOUNT', port: nfs }, service.answerDatagram))
    const portMapper =
      ports.portMapper === undefined
        ? undefined
        : await kept(startPortMapper({ ...options, port: ports.portMapper, nfs }))
    return { ports: { nfs, portMapper }, close }
  } catch (error) {
    // Nobody waits for it: the connections may end only when the caller has closed what serves them.
    void close()
    throw error
  }
}

type PortMapperOptions = Omit<TcpServerOptions, 'name' | 'programs' | 'hasLongCalls'> & {
  /** The port of NFS, and of MOUNT over TCP and UDP. */
  nfs: number
}

/** @throws `NetimageError` `cannot-listen` */
async function startPortMapper(options: PortMapperOptions): Promise<Listener> {
  const { address, nfs } = options
  const registrations: Registration[] = []
  const mapper = portMapper(address, registrations)
  const shared = { ...options, name: 'The port mapper', programs: [mapper] }
  const tcp = await startTcpServer({ ...shared, hasLongCalls: false })
  const { port } = tcp
  try {
    const udp = await listenUdp({ ...shared, port }, createAnswerDatagram(shared))
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
