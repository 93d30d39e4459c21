/**
 * UDP sockets that receive from and send to one network interface only.
 *
 * A machine without an address sends broadcasts. The broadcast does not tell on which interface it
 * arrived, and a reply to `255.255.255.255` follows the default route. So the kernel must bind the
 * socket to the interface, but Node has no SO_BINDTODEVICE. Instead we bind the socket to a
 * link-local IPv6 address that this machine does not have, with the interface as its scope. The
 * kernel binds the socket to the interface, then refuses the address (EADDRNOTAVAIL), and the
 * socket stays bound to the interface. Then we bind the same socket to an IPv4 address.
 * `assertKept` tests that the kernel really did this.
 */
import { once } from 'node:events'

import { errnoOf, NetimageError } from '../../errors.ts'
import { createDatagramSocket, type RemoteInfo, type Socket } from '../datagram-socket.ts'
import { listenError } from '../listen.ts'
import { anyAddress } from './packet.ts'

export interface Peer {
  address: string
  port: number
}

export interface DeviceSocket {
  /** If the packet cannot be sent, it is lost without an error. */
  send(bytes: Uint8Array, to: Peer): void
  close(): Promise<void>
}

export interface DeviceSocketOptions {
  /** The service, for error messages. */
  name: string
  device: string
  /** The IPv4 address that the socket is bound to. */
  address: string
  port: number
  /** Whether other programs may bind the address and port as well; they receive broadcasts too. */
  shared: boolean
  /** Connects the socket: it sends only to this peer, and receives only from it. */
  peer?: Peer
  onMessage: (bytes: Buffer, sender: Peer) => void
  onError: (error: unknown) => void
}

/** An address that no machine has: its last half is the text `netimage`. */
const unusedAddress = 'fe80::6e65:7469:6d61:6765'

const kernelHint =
  'Use a Linux kernel with IPv6, started without ipv6.disable=1; this machine needs no IPv6 address. Or serve with --dhcp off.'

/** @throws `NetimageError` `cannot-listen` */
export async function openDeviceSocket(options: DeviceSocketOptions): Promise<DeviceSocket> {
  const { peer, onMessage, onError } = options
  await assertKept(options)
  const socket = await bindToDevice(options)
  socket.setBroadcast(true)
  if (peer) {
    socket.connect(peer.port, `::ffff:${peer.address}`)
    await once(socket, 'connect')
  }
  socket.on('error', onError)
  socket.on('message', (bytes: Buffer, { address, port }: RemoteInfo) =>
    onMessage(bytes, { address: address.replace(/^::ffff:/, ''), port }),
  )
  return {
    send(bytes, { address, port }) {
      if (peer) socket.send(bytes, () => {})
      else socket.send(bytes, port, `::ffff:${address}`, () => {})
    },
    close: () => new Promise((resolve) => void socket.close(resolve)),
  }
}

/** Two sockets can have the same address and port only if each is bound to its own interface. */
async function assertKept(options: DeviceSocketOptions): Promise<void> {
  const sample = { ...options, address: anyAddress, port: 0, shared: false }
  const socket = await bindToDevice(sample)
  try {
    const { port } = socket.address()
    const other = await bindToDevice({ ...sample, port, device: 'lo' })
    other.close()
  } catch (cause) {
    throw notRestricted(options, 'the kernel did not bind the socket to it', cause)
  } finally {
    socket.close()
  }
}

function notRestricted(
  { name, device }: Pick<DeviceSocketOptions, 'name' | 'device'>,
  why: string,
  cause: unknown,
): NetimageError {
  return new NetimageError(
    'cannot-listen',
    `${name} cannot keep to the interface ${device}: ${why}`,
    { cause, details: { field: name, actual: device }, hint: kernelHint },
  )
}

async function bindToDevice(options: DeviceSocketOptions): Promise<Socket> {
  const { name, device, address, port, shared } = options
  const socket = createDatagramSocket({ type: 'udp6', reuseAddr: shared })
  try {
    await tie(socket, device)
    await bind(socket, `::ffff:${address}`, port)
    return socket
  } catch (cause) {
    socket.close()
    if (errnoOf(cause) === 'EAFNOSUPPORT')
      throw notRestricted(options, 'the kernel has no IPv6', cause)
    throw listenError(name, { address, port }, cause)
  }
}

async function tie(socket: Socket, device: string): Promise<void> {
  try {
    await bind(socket, `${unusedAddress}%${device}`, 0)
  } catch (error) {
    if (errnoOf(error) === 'EADDRNOTAVAIL') return
    throw error
  }
  throw new Error(`this machine has the address ${unusedAddress}, which should be unused`)
}

async function bind(socket: Socket, address: string, port: number): Promise<void> {
  socket.bind({ address, port, exclusive: true })
  await once(socket, 'listening')
}
