/**
 * The ports of transfers: the server's identifier of a transfer is a UDP port of its own.
 * [RFC 1350 §4]
 */
import { isIPv6 } from 'node:net'

import { createDatagramSocket, type Socket } from '../datagram-socket.ts'
import { decode, encode, errorCode } from './packet.ts'
import type { Peer } from './sessions.ts'
import type { SendAll } from './transfer.ts'

export interface PortOptions {
  /** The IPv4 or IPv6 address that packets are sent from. */
  address: string
  /** The only sender whose packets are received. */
  peer: Peer
  /** Called with each packet; its bytes are valid only during the call. */
  receive: (packet: Buffer) => void
  /** Called if the port cannot send any more. */
  fail: (error: Error) => void
}

export interface Port {
  send: (packet: Buffer) => void
  sendAll?: SendAll
  close: () => void
}

/** @throws if no port can be opened */
export type OpenPort = (options: PortOptions) => Port

/** Opens ports by Node's own sockets. */
export const openDatagramPort: OpenPort = ({ address, peer, receive, fail }) => {
  const { host, port } = peer
  const socket = openSocket(address)
  socket.on('error', fail)
  socket.on('message', (bytes, from) => {
    if (from.port === port && from.address === host) receive(bytes)
    else if (isRefused(bytes)) socket.send(belongsToAnother, from.port, from.address)
  })
  socket.bind({ address, exclusive: true })
  return {
    send: (packet) => socket.send(packet, port, host),
    close: () => void socket.close(),
  }
}

/**
 * Addresses are never names, so `lookup` answers at once. Node's own lookup would wait for the
 * event loop with each packet.
 */
export function openSocket(address: string): Socket {
  const family = isIPv6(address) ? 6 : 4
  return createDatagramSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    lookup: (host, _options, callback) => callback(null, host, family),
  })
}

/** Another sender gets this packet, and the transfer goes on. [RFC 1350 §4] */
export const belongsToAnother = encode({
  kind: 'error',
  code: errorCode.unknownTransfer,
  message: 'this transfer belongs to another machine',
})

/** An error packet gets no answer: two programs would send such packets to each other for ever. */
export function isRefused(packet: Buffer): boolean {
  return decode(packet)?.kind !== 'error'
}
