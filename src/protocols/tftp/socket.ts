/** The port that clients of TFTP know: their requests come there. */
import type { NetimageError } from '../../errors.ts'
import { plainAddress } from '../connections.ts'
import type { Socket } from '../datagram-socket.ts'
import { defect } from '../defect.ts'
import { listenError, type Listener } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { openSocket } from './ports.ts'
import type { Peer } from './sessions.ts'

export interface TftpSocketOptions {
  /** The IPv4 or IPv6 address to listen on. */
  address: string
  /** 0: any free port. */
  port: number
  /** Default: packets of all clients are received. */
  hears?: Hears
  /** Called with errors while it listens. */
  onError: (error: NetimageError) => void
}

export interface TftpSocket extends Listener {
  send: (to: Peer, packet: Buffer) => void
}

/** Large, because all machines of a rack may ask at the same moment. */
const receiveBytes = 1 << 20

/**
 * @param receive called with each packet
 * @throws `NetimageError` `cannot-listen`
 */
export async function listenTftp(
  options: TftpSocketOptions,
  receive: (packet: Buffer, from: Peer) => void,
): Promise<TftpSocket> {
  const { address, port, hears, onError } = options
  const socket = openSocket(address)
  const ready = Promise.withResolvers<void>()
  socket.once('error', (error) => ready.reject(listenError('TFTP (UDP)', options, error)))
  socket.on('message', (packet, from) => {
    if (hears?.(plainAddress(from.address) ?? '') === false) return
    receive(packet, { host: from.address, port: from.port })
  })
  socket.bind({ address, port, exclusive: true }, ready.resolve)
  await ready.promise
  socket.on('error', (error) => onError(defect('TFTP', error)))
  widen(socket)
  let closed: Promise<void> | undefined
  return {
    port: socket.address().port,
    send: (to, packet) => socket.send(packet, to.port, to.host),
    close: () => (closed ??= new Promise((resolve) => void socket.close(resolve))),
  }
}

function widen(socket: Socket): void {
  try {
    socket.setRecvBufferSize(receiveBytes)
  } catch {
    // The default size is enough for fewer machines.
  }
}
