/**
 * UDP sockets that hear and reach one network interface only.
 *
 * Broadcasts come from machines without an address: nothing in them says on which interface they
 * came in, and `255.255.255.255` leads to where the default route does. So the kernel must keep the
 * socket to its interface, but Node cannot ask it to (SO_BINDTODEVICE). It can ask for a link-local
 * IPv6 address, whose scope is an interface: the kernel ties the socket to the scope before it
 * finds that there is no such address, and leaves it so. The same socket is then bound to an IPv4
 * address. Whether it has worked is tried out, not believed.
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
  /** What cannot be sent is lost, as anything is that is sent by UDP. */
  send(bytes: Uint8Array, to: Peer): void
  close(): Promise<void>
}

export interface DeviceSocketOptions {
  /** For errors: what is served. */
  name: string
  device: string
  /** Packets that are sent here are received: IPv4. */
  address: string
  port: number
  /** Whether other programs may have the address and port as well; they get broadcasts too. */
  shared: boolean
  /** Where all that is sent goes; nothing is heard from anybody else. */
  peer?: Peer
  onMessage: (bytes: Buffer, sender: Peer) => void
  onError: (error: unknown) => void
}

/** No machine has it: its last half is a text. */
const nobody = 'fe80::6e65:7469:6d61:6765'

const kernelHint = 'That takes a Linux kernel with IPv6, which need not have any address.'

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

/** Two sockets can have the same address and port only if each is kept to its own interface. */
async function assertKept(options: DeviceSocketOptions): Promise<void> {
  const sample = { ...options, address: anyAddress, port: 0, shared: false }
  const socket = await bindToDevice(sample)
  try {
    const { port } = socket.address()
    const other = await bindToDevice({ ...sample, port, device: 'lo' })
    other.close()
  } catch (cause) {
    const problem = `${options.name} cannot be kept to the interface ${options.device}`
    throw new NetimageError('cannot-listen', problem, { cause, hint: kernelHint })
  } finally {
    socket.close()
  }
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
    throw listenError(name, { address, port }, cause)
  }
}

async function tie(socket: Socket, device: string): Promise<void> {
  try {
    await bind(socket, `${nobody}%${device}`, 0)
  } catch (error) {
    if (errnoOf(error) === 'EADDRNOTAVAIL') return
    throw error
  }
  throw new Error(`the kernel takes ${nobody} for an address of its own`)
}

async function bind(socket: Socket, address: string, port: number): Promise<void> {
  socket.bind({ address, port, exclusive: true })
  await once(socket, 'listening')
}
