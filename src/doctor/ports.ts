/** Whether all ports of the server can be used: each is opened as `serve` opens it, and closed at once. */
import { errnoOf, NetimageError } from '../errors.ts'
import { openDeviceSocket } from '../protocols/dhcp/device-socket.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import { listenUdp } from '../protocols/rpc/udp-server.ts'
import { listenTcp } from '../protocols/tcp-listener.ts'
import { listenTftp } from '../protocols/tftp/socket.ts'
import { findingOf, type DoctorFinding } from './finding.ts'
import { ownersOf, type PortOwners, type WantedPort } from './port-owner.ts'
import type { Service } from './services.ts'

export async function examinePorts(
  services: readonly Service[],
  place: ServedInterface,
): Promise<DoctorFinding[]> {
  const findings: DoctorFinding[] = []
  const refused: Service[] = []
  // One after the other: ports of one protocol must not take each other.
  for (const service of services) {
    const wanted = { ...service, address: place.address }
    const failure = await tryService(service, place)
    const errno = failure && errnoOf(failure.cause)
    if (errno === 'EACCES' || errno === 'EPERM') refused.push(service)
    else if (errno === 'EADDRINUSE') findings.push(taken(service, ownersOf(wanted)))
    else if (failure) findings.push(findingOf('port-unusable', failure))
    else if (service.name === 'DHCP') findings.push(...shared(service, wanted))
  }
  return [...findings, ...notAllowed(refused)]
}

/** @returns why the port cannot be used */
async function tryService(
  service: Service,
  place: ServedInterface,
): Promise<NetimageError | undefined> {
  try {
    await (await open(service, place)).close()
    return undefined
  } catch (error) {
    if (error instanceof NetimageError) return error
    throw error
  }
}

const ignore = () => {}

function open(
  { name, transport, port, isShared }: Service,
  { name: device, address }: ServedInterface,
): Promise<{ close(): Promise<void> }> {
  if (transport === 'tcp') {
    const service = {
      accept: (socket: { destroy(): unknown }) => void socket.destroy(),
      close: ignore,
    }
    return listenTcp({ name, address, port, onError: ignore }, service)
  }
  if (name === 'TFTP') return listenTftp({ address, port, onError: ignore }, ignore)
  if (name !== 'DHCP') return listenUdp({ name, address, port, onDefect: ignore }, () => undefined)
  return openDeviceSocket({
    ...{ name, device, address, port },
    ...{ shared: isShared, onMessage: ignore, onError: ignore },
  })
}

function taken(service: Service, owners: PortOwners): DoctorFinding {
  const { transport, port, name, instead } = service
  const message = `the port ${transport.toUpperCase()} ${port}, for ${name}, is taken by ${describe(owners)}`
  const ways = [...stopping(service, owners), ...(instead === undefined ? [] : [instead])]
  return { code: 'port-taken', level: 'error', message, fix: ways.join('\nor: ') }
}

/** A DHCP server for another interface may have the port as well, and one beside a proxy. */
function shared({ transport, port }: Service, wanted: WantedPort): DoctorFinding[] {
  const owners = ownersOf(wanted)
  if (owners.processes.length === 0) return []
  return [
    {
      code: 'port-shared',
      level: 'note',
      message: `the port ${transport.toUpperCase()} ${port}, for DHCP, is used also by ${describe(owners)}: this works if that program serves another interface, or gives the addresses beside --dhcp proxy`,
      fix: `ss -lnup 'sport = :${port}'`,
    },
  ]
}

function describe({ processes, isKernelNfs, isPartial }: PortOwners): string {
  if (isKernelNfs) return 'the NFS server of the kernel'
  if (processes.length > 0) {
    return processes.map(({ name, pid }) => `${name} (process ${pid})`).join(' and ')
  }
  return isPartial
    ? 'a program of another user: root can tell which one'
    : 'a program that cannot be seen here: one of another container, or the kernel'
}

const rpcbind = 'systemctl stop rpcbind.socket rpcbind.service'

/** @returns commands */
function stopping({ transport, port }: Service, owners: PortOwners): string[] {
  const { processes, isKernelNfs } = owners
  if (isKernelNfs) return ['systemctl stop nfs-server.service']
  const names = processes.map(({ name }) => name)
  // systemd holds the port for rpcbind.
  if (port === 111 && (names.includes('rpcbind') || names.includes('systemd'))) {
    const direct = processes.filter(({ name, unit }) => name === 'rpcbind' && !unit)
    return direct.length === 0 ? [rpcbind] : [`kill ${direct.map(({ pid }) => pid).join(' ')}`]
  }
  if (processes.length === 0)
    return [`ss -ln${transport === 'tcp' ? 't' : 'u'}p 'sport = :${port}'`]
  return [
    ...new Set(processes.map(({ pid, unit }) => (unit ? `systemctl stop ${unit}` : `kill ${pid}`))),
  ]
}

function notAllowed(services: readonly Service[]): DoctorFinding[] {
  if (services.length === 0) return []
  const list = services
    .map(({ transport, port, name }) => `${transport.toUpperCase()} ${port} (${name})`)
    .join(', ')
  return [
    {
      code: 'port-not-allowed',
      level: 'error',
      message: `this user may not listen on ${list}`,
      fix: 'Start netimage serve as root, or in a unit of systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE',
    },
  ]
}
