/** Whether all ports of the server can be used: each is opened as `serve` opens it, and closed at once. */
import { errnoOf, NetimageError } from '../errors.ts'
import { openDeviceSocket } from '../protocols/dhcp/device-socket.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import { listenUdp } from '../protocols/rpc/udp-server.ts'
import { listenTcp } from '../protocols/tcp-listener.ts'
import { listenTftp } from '../protocols/tftp/socket.ts'
import { findingOf, runAsRoot, type DoctorFinding } from './finding.ts'
import { ownersOf, type PortOwner, type PortOwners, type WantedPort } from './port-owner.ts'
import { saysService, type Service } from './services.ts'
import { socketUnitsWith } from './socket-units.ts'

export async function examinePorts(
  services: readonly Service[],
  place: ServedInterface,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const findings: DoctorFinding[] = []
  const refused: Service[] = []
  // One after the other: ports of one protocol must not take each other.
  for (const service of services) {
    const wanted = { ...service, address: place.address }
    const failure = await tryService(service, place)
    const errno = failure && errnoOf(failure.cause)
    if (errno === 'EACCES' || errno === 'EPERM') refused.push(service)
    else if (errno === 'EADDRINUSE') findings.push(await taken(service, wanted, signal))
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

async function taken(
  service: Service,
  wanted: WantedPort,
  signal: AbortSignal,
): Promise<DoctorFinding> {
  const owners = ownersOf(wanted)
  const sockets = owners.processes.some(isSystemd) ? await socketUnitsWith(wanted, signal) : []
  const message = `the port ${saysService(service)} is taken by ${describe(owners)}`
  const fix = stopping(owners, sockets)
  const hint =
    fix === undefined ? `${finding(service, owners)} ${service.instead}` : service.instead
  return { code: 'port-taken', level: 'error', message, fix, hint }
}

/** A DHCP server for another interface may have the port as well, and one beside a proxy. */
function shared(service: Service, wanted: WantedPort): DoctorFinding[] {
  const owners = ownersOf(wanted)
  if (owners.processes.length === 0) return []
  return [
    {
      code: 'port-shared',
      level: 'note',
      message: `the port ${saysService(service)} is used also by ${describe(owners)}: this works if that program serves another interface, or gives the addresses beside --dhcp proxy`,
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

/** It holds ports for services that do not run yet. */
const isSystemd = ({ pid, name }: PortOwner) => pid === 1 && name === 'systemd'

/**
 * @param sockets the units by which systemd holds the port
 * @returns a command after which nothing has the port; undefined if it is not known who has it
 */
export function stopping(
  { processes, isKernelNfs }: PortOwners,
  sockets: readonly string[],
): string | undefined {
  if (isKernelNfs) return 'systemctl stop nfs-server.service'
  const stoppable = processes.filter(({ pid }) => pid !== 1)
  const services = stoppable.flatMap(({ unit }) => unit ?? [])
  // If only the service is stopped, its socket starts it again.
  const held = services.includes('rpcbind.service') ? ['rpcbind.socket'] : []
  const units = [...new Set([...sockets, ...held, ...services])]
  const pids = stoppable.filter(({ unit }) => unit === undefined).map(({ pid }) => pid)
  const commands = [
    ...(units.length > 0 ? [`systemctl stop ${units.join(' ')}`] : []),
    ...(pids.length > 0 ? [`kill ${pids.join(' ')}`] : []),
  ]
  return commands.length > 0 ? commands.join(' && ') : undefined
}

/** How a person finds out who has the port, if the doctor could not. */
function finding({ transport, port }: Service, { processes, isPartial }: PortOwners): string {
  if (isPartial) return runAsRoot
  return processes.some(isSystemd)
    ? 'Find its unit with systemctl list-sockets, and stop it.'
    : `Find the program with ss -ln${transport === 'tcp' ? 't' : 'u'}p 'sport = :${port}', outside of this container, and stop it.`
}

function notAllowed(services: readonly Service[]): DoctorFinding[] {
  if (services.length === 0) return []
  return [
    {
      code: 'port-not-allowed',
      level: 'error',
      message: `this user may not listen on ${services.map(saysService).join(', ')}`,
      hint: 'Start netimage serve as root, or in a unit of systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE.',
    },
  ]
}
