/** The DHCP server of one interface: a proxyDHCP server, or a full server. */
import { NetimageError } from '../../errors.ts'
import { defect } from '../defect.ts'
import { notServed, type DhcpEvent, type MachineClue, type Report } from '../event.ts'
import { ownAddresses } from '../interfaces.ts'
import { limitInvented } from '../report-limit.ts'
import {
  assertAlone,
  checkAddresses,
  reservationsNow,
  type AddressSettings,
} from './address-settings.ts'
import type { Answer } from './answer.ts'
import type { BootAnswer, NoBoot } from './boot-fields.ts'
import type { Peer } from './device-socket.ts'
import { openDeviceSockets, type DeviceSockets } from './device-sockets.ts'
import { followExchanges } from './exchanges.ts'
import { leaseSeconds, serveInFull } from './full.ts'
import { postponedTeller } from './postponed.ts'
import { findUsersByArp } from './in-use.ts'
import { checkInterface } from './interface.ts'
import { openLeaseFile } from './lease-file.ts'
import { keepLeases } from './leases.ts'
import { machineOf, type Machine } from './machine.ts'
import { messageType, messageTypeOf, option, textOf } from './options.ts'
import {
  anyAddress,
  decodePacket,
  DhcpPacketError,
  encodePacket,
  type DhcpPacket,
} from './packet.ts'
import { answerAsProxy, isForProxy } from './proxy.ts'
import { destinationOf, maxReplyBytes } from './reply.ts'

export type DhcpServerOptions = {
  /** The only interface that the server receives and sends on. */
  interface: string
  /** An address of the interface. */
  address: string
  /** Whether a machine is served at all. */
  allow: (machine: Machine) => boolean
  /**
   * The boot answer for a machine; called only for machines that boot by DHCP.
   *
   * @param asks what the machine asks for, as it is reported once it is answered
   */
  bootFor: (machine: Machine, asks: DhcpRequestEvent) => Promise<BootAnswer | NoBoot>
  report: Report
  /** Called with errors that no machine caused: a failing disk, a defect of netimage. */
  onError: (error: NetimageError) => void
  signal?: AbortSignal
} & ({ mode: 'proxy' } | ({ mode: 'full' } & AddressSettings))

export type DhcpRequestEvent = DhcpEvent & { mac: string }

export interface DhcpServer {
  /**
   * To be called when a machine fetches or mounts something: its hardware address is not invented.
   */
  sees: (mac: string) => void
  close: () => Promise<void>
}

/** The difference between a proxy and a full server. */
interface Role {
  answer: (
    request: DhcpPacket,
    machine: Machine,
    port: number,
  ) => Promise<Answer | undefined> | Answer | undefined
  /**
   * The addresses to listen on; a reply is sent from the first place with the port of the request.
   */
  places: readonly { address: string; port: number; peer?: Peer }[]
  /**
   * Whether the machine has a lease or a reservation, so that its hardware address is not invented.
   */
  knows: (mac: string) => boolean
  sees: (mac: string) => void
  /** Whether every packet on a port is for this server, even a packet that cannot be decoded. */
  isMeant: (port: number) => boolean
}

const broadcastAddress = '255.255.255.255'
const [serverPort, clientPort, proxyPort] = [67, 68, 4011]

/** @throws `NetimageError` `bad-option`, `bad-state`, `cannot-listen`, `other-dhcp-server` */
export async function startDhcpServer(options: DhcpServerOptions): Promise<DhcpServer> {
  const { interface: device, address, signal } = options
  signal?.throwIfAborted()
  checkInterface(device, address)
  await using unfinished = new AsyncDisposableStack()
  const { answer, places, knows, sees, isMeant } =
    options.mode === 'full' ? await fullRole(options, unfinished) : proxyRole(options)

  let isOpen = true
  const onError = (error: unknown) => {
    // Work that was under way when the server was closed may fail.
    if (!isOpen) return
    options.onError(error instanceof NetimageError ? error : defect('DHCP', error))
  }
  const mayTell = limitInvented(knows, Date.now)
  const report = (event: DhcpEvent & MachineClue) => options.report(event, mayTell(event))
  const complete = followExchanges(address)
  const isProxy = options.mode === 'proxy'

  /** Reports a packet that cannot be answered, for the person who looks for the reason. */
  function tellRefused(from: Peer, mac: string | undefined, reason: string): void {
    report({
      ...{ kind: 'dhcp', step: 'refuse', proxy: isProxy, reason },
      ...(mac !== undefined && { mac }),
      ...(from.address !== anyAddress && { address: from.address }),
    })
  }

  // A packet may come in before all sockets are open.
  let sockets: DeviceSockets | undefined
  async function receive(bytes: Buffer, from: Peer, port: number): Promise<void> {
    const decoded = decodeOrReason(bytes)
    if ('reason' in decoded) {
      if (isMeant(port)) tellRefused(from, undefined, decoded.reason)
      return
    }
    // An answer of another server.
    if (decoded.operation !== 'request') return
    const machine = machineOf(complete(decoded, port))
    const type = messageTypeOf(decoded)
    if (machine === undefined || type === undefined) {
      const reason = machine ? asksByBootp : noHardwareAddress
      if (isMeant(port)) tellRefused(from, machine?.mac, reason)
      return
    }
    const request = decoded
    const result = await answer(request, machine, port)
    if (result === undefined || !isOpen) return
    const { packet, step, address: given, reason } = result
    const bytesToSend = packet && encodeReply(packet, maxReplyBytes(request))
    const clue = clueOf(machine, isProxy)
    if (packet && !bytesToSend) {
      const reason = 'the longest reply that the machine accepts is too short'
      report({ ...clue, step: 'refuse', reason })
      return
    }
    const asked = askedStep(request)
    if (step !== 'refuse' && asked) report({ ...clue, step: asked })
    const bootFile = packet && bootFileOf(packet)
    report({
      ...clue,
      step,
      ...(given !== undefined && given !== anyAddress && { address: given }),
      ...(bootFile !== undefined && { bootFile }),
      ...(reason !== undefined && { reason }),
    })
    if (!packet || !bytesToSend) return
    const to = port === proxyPort ? from : destinationOf(packet)
    sockets?.send(port, bytesToSend, to)
  }

  const opened = await openDeviceSockets(
    device,
    places.map((place) => ({
      ...place,
      name: 'DHCP',
      // Another DHCP server may run on this machine, for another interface or beside a proxy.
      shared: place.port === serverPort,
      onMessage: (bytes, from) => void receive(bytes, from, place.port).catch(onError),
    })),
    onError,
  )
  unfinished.defer(() => opened.close())
  sockets = opened

  signal?.throwIfAborted()
  const running = unfinished.move()
  const close = () => {
    isOpen = false
    return running.disposeAsync()
  }
  signal?.addEventListener('abort', () => void close(), { once: true })
  return { sees, close }
}

function proxyRole({ allow, bootFor, address }: DhcpServerOptions): Role {
  return {
    async answer(request, machine, port) {
      if (machine.bootClient === undefined || !isForProxy(request, port)) return undefined
      if (!allow(machine)) return { step: 'refuse', reason: notServed }
      const boot = await bootFor(machine, requestEvent(request, machine, true))
      if ('reason' in boot) return { step: 'refuse', reason: boot.reason }
      return answerAsProxy(request, { machine, boot, server: address, port })
    },
    places: [
      // Connected, so that this socket leaves unicast packets to a server that gives addresses.
      { address, port: serverPort, peer: { address: broadcastAddress, port: clientPort } },
      { address: broadcastAddress, port: serverPort },
      { address, port: proxyPort },
    ],
    knows: () => false,
    sees: () => {},
    isMeant: (port) => port === proxyPort,
  }
}

async function fullRole(
  options: DhcpServerOptions & AddressSettings,
  running: AsyncDisposableStack,
): Promise<Role> {
  const { interface: device, address, network, told, allow, bootFor, onError, signal } = options
  const { hostNameOf } = options
  const own = [address, ...ownAddresses().map((one) => one.address)]
  const excluded = checkAddresses(options, own)
  if (!options.force) await assertAlone(device, signal)
  const file = running.adopt(openLeaseFile(options.leasesFile, onError), (opened) => opened.close())
  const { findUser } = running.adopt(await findUsersByArp(device), (probe) => probe.close())
  const reservations = reservationsNow(options, excluded, onError)
  // What is wrong with them is told now, and not when the first machine comes.
  reservations()
  const leases = keepLeases({ ...options, reservations, excluded, file })
  const answer = serveInFull({
    ...{ address, network, told, hostNameOf, leases, findUser },
    onPostponed: postponedTeller(onError),
    now: Date.now,
  })
  return {
    async answer(request, machine) {
      if (!allow(machine)) return { step: 'refuse', reason: notServed }
      const boot =
        machine.bootClient && (await bootFor(machine, requestEvent(request, machine, false)))
      if (boot && 'reason' in boot) return { step: 'refuse', reason: boot.reason }
      return await answer(request, machine, boot)
    },
    places: [
      { address, port: serverPort },
      { address: broadcastAddress, port: serverPort },
    ],
    knows: (mac) => leases.knows(mac, Date.now()),
    sees: (mac) => leases.trust(mac, Date.now(), leaseSeconds),
    isMeant: () => true,
  }
}

/** @returns undefined if the options do not fit */
function encodeReply(packet: DhcpPacket, maxBytes: number): Buffer | undefined {
  try {
    return encodePacket(packet, maxBytes)
  } catch (error) {
    if (error instanceof DhcpPacketError) return undefined
    throw error
  }
}

function decodeOrReason(bytes: Buffer): DhcpPacket | { reason: string } {
  try {
    return decodePacket(bytes)
  } catch (error) {
    if (!(error instanceof DhcpPacketError)) throw error
    return { reason: `the packet is not DHCP: ${error.message}` }
  }
}

const asksByBootp =
  'the machine asks by BOOTP, which has no leases: let it ask by DHCP (ip=dhcp for a kernel)'
const noHardwareAddress = 'the request has no hardware address of six bytes'

function clueOf(
  { mac, architectures: [architecture], vendorClass, userClasses: [userClass] }: Machine,
  proxy: boolean,
): Omit<DhcpEvent, 'step'> & { mac: string } {
  return {
    kind: 'dhcp',
    proxy,
    mac,
    ...(architecture !== undefined && { architecture }),
    ...(userClass !== undefined && { userClass }),
    ...(vendorClass !== undefined && { vendorClass }),
  }
}

function requestEvent(request: DhcpPacket, machine: Machine, proxy: boolean): DhcpRequestEvent {
  return { ...clueOf(machine, proxy), step: askedStep(request) ?? 'request' }
}

function askedStep(request: DhcpPacket): DhcpEvent['step'] | undefined {
  switch (messageTypeOf(request)) {
    case messageType.discover:
      return 'discover'
    case messageType.request:
    case messageType.inform:
      return 'request'
    default:
      return undefined
  }
}

function bootFileOf({ file, options }: DhcpPacket): string | undefined {
  const long = options.get(option.bootFile)
  if (long) return textOf(long)
  return file === '' ? undefined : file
}
