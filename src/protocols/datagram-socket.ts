/**
 * The UDP sockets of all protocols. A forged packet can have the source port 0, but no program can
 * use this port, and Node throws if we send to it. So such packets are dropped here, before any
 * protocol tries to answer them.
 */
import { createSocket, type RemoteInfo, type Socket, type SocketOptions } from 'node:dgram'

export type { RemoteInfo, Socket }

/** @returns a socket that never emits a `message` whose sender has port 0 */
export function createDatagramSocket(options: SocketOptions): Socket {
  const socket = createSocket(options)
  const emit = socket.emit.bind(socket)
  // We filter here because otherwise each listener would have to check the port.
  socket.emit = (event: string | symbol, ...values: unknown[]) =>
    event === 'message' && !canBeAnswered(values[1]) ? false : emit(event, ...values)
  return socket
}

function canBeAnswered(sender: unknown): boolean {
  return typeof sender === 'object' && sender !== null && 'port' in sender && sender.port !== 0
}
