/** The NFS server: NFS version 3 over TCP, MOUNT and the port mapper over TCP and UDP. */
import { asNetimageError, fileSystemError, messageOf, NetimageError } from '../../errors.ts'
import type { ClientAt } from '../connections.ts'
import type { Report } from '../event.ts'
import type { Hears } from '../on-interface.ts'
import { portMapper, portMapperProgram, type Registration } from '../rpc/port-mapper.ts'
import type { Caller } from '../rpc/program.ts'
import { startTcpServer, type RpcServer, type TcpLimits } from '../rpc/tcp-server.ts'
import { startUdpServer } from '../rpc/udp-server.ts'
import { handleKeyBytes } from './handle.ts'
import { createServe, type MachineOf } from './machine.ts'
import { createMountProgram } from './mount.ts'
import { createNfsProgram, type Observation } from './program.ts'
import { mountProgram, mountVersion, nfsProgram, nfsVersion } from './protocol.ts'

export interface NfsServerOptions {
  /** The IPv4 or IPv6 address to listen on. */
  address: string
  /** 0: any free port. */
  ports: {
    /** Default: no port mapper; then clients must be told the other ports. */
    portMapper?: number
    /** Default: the port of `nfs`. */
    mount?: number
    nfs: number
  }
  machineOf: MachineOf
  /**
   * 32 secret bytes. If the key changes at a restart, running machines lose their root.
   */
  handleKey: Buffer
  report: Report
  /** Called after each operation that succeeded. Its errors go to `onError`, not to the machine. */
  observe?: (observation: Observation) => void
  /** Called with errors that no machine caused: a failing disk, a defect of netimage. */
  onError: (error: NetimageError) => void
  /** Default: calls of all clients are answered. */
  hears?: Hears
  /** The machine that has an address. Default: each address is a served machine of its own. */
  clientAt?: ClientAt
  /** Called at the end of each connection. */
  onLeave?: (caller: Caller) => void
  signal?: AbortSignal
  limits?: TcpLimits
}

export interface NfsServer {
  address: string
  ports: { portMapper?: number; mount: number; nfs: number }
  close: () => Promise<void>
}

/** The highest version of these protocols. */
const maxVersion = 4

/** @throws `NetimageError` `cannot-listen` */
export async function startNfsServer(options: NfsServerOptions): Promise<NfsServer> {
  const { address, ports, machineOf, handleKey, report, observe, onError, signal, limits } = options
  if (handleKey.length !== handleKeyBytes)
    throw new RangeError(`the key of handles must have ${handleKeyBytes} bytes`)
  signal?.throwIfAborted()

  const serve = createServe(handleKey)
  const otherVersion = (name: string, own: number) => (caller: Caller, version: number) => {
    // Programs that search for versions ask for versions that do not exist. This is not reported.
    if (version === 0 || version > maxVersion) return
    const reason = `the machine asks for ${name} version ${version}, but this server has only version ${own}`
    report({ kind: 'nfs', step: 'refuse', address: caller.address, path: '', reason })
  }
  const mount = {
    ...createMountProgram({ machineOf, serve, report }),
    onOtherVersion: otherVersion('MOUNT', mountVersion),
  }
  const nfsProgramOfAll = createNfsProgram({
    machineOf,
    serve,
    onFailure: ({ caller: { address } }, procedure, error) => {
      const doing = `${procedure} for ${address} failed`
      const cause = { cause: error }
      onError(new NetimageError('file-system', `${doing}: ${messageOf(error)}`, cause))
    },
    observe,
    onUnobserved: ({ machine, procedure }, error) => {
      const doing = `could not follow what ${machine} does in its root (${procedure})`
      const hint = 'The machine itself goes on: its operation succeeded.'
      onError(asNetimageError(fileSystemError(doing, error, { hint })))
    },
  })
  const nfs = { ...nfsProgramOfAll, onOtherVersion: otherVersion('NFS', nfsVersion) }
  const registrations: Registration[] = []
  const mapper = portMapper(address, registrations)

  const started: RpcServer[] = []
  const close = async () => {
    await Promise.all(started.splice(0).map((server) => server.close()))
  }
  const onDefect = (error: unknown) => {
    onError(new NetimageError('internal', `NFS: ${messageOf(error)}`, { cause: error }))
  }
  const shared = {
    address,
    onDefect,
    hears: options.hears,
    clientAt: options.clientAt,
    onLeave: options.onLeave,
    ...(limits && { limits }),
  }
  async function kept<Server extends RpcServer>(starting: Promise<Server>): Promise<Server> {
    const server = await starting
    started.push(server)
    return server
  }

  try {
    const isShared = ports.mount === undefined || (ports.mount === ports.nfs && ports.nfs !== 0)
    const main = await kept(
      startTcpServer({
        ...shared,
        name: 'NFS',
        hasLongCalls: true,
        port: ports.nfs,
        programs: isShared ? [nfs, mount] : [nfs],
      }),
    )
    const nfsPort = main.port
    const small = { hasLongCalls: false }
    const onlyMount = { ...shared, ...small, name: 'MOUNT', programs: [mount] }
    const mountPort = isShared
      ? nfsPort
      : (await kept(startTcpServer({ ...onlyMount, port: ports.mount ?? 0 }))).port
    await kept(startUdpServer({ ...onlyMount, port: mountPort }))

    const versions = { program: nfsProgram, version: nfsVersion }
    registrations.push({ ...versions, transport: 'tcp', port: nfsPort })
    for (const transport of ['tcp', 'udp'] as const) {
      const port = mountPort
      registrations.push({ program: mountProgram, version: mountVersion, transport, port })
    }
    let mapperPort: number | undefined
    if (ports.portMapper !== undefined) {
      const onlyMapper = { ...shared, ...small, name: 'The port mapper', programs: [mapper] }
      mapperPort = (await kept(startTcpServer({ ...onlyMapper, port: ports.portMapper }))).port
      await kept(startUdpServer({ ...onlyMapper, port: mapperPort }))
      for (const version of mapper.versions.keys()) {
        for (const transport of ['tcp', 'udp'] as const) {
          registrations.push({ program: portMapperProgram, version, transport, port: mapperPort })
        }
      }
    }
    signal?.throwIfAborted()
    signal?.addEventListener('abort', () => void close(), { once: true })
    return {
      address,
      ports: {
        nfs: nfsPort,
        mount: mountPort,
        ...(mapperPort !== undefined && { portMapper: mapperPort }),
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
