/**
 * The UDP sockets of all protocols. Nobody can be answered at port 0: it is no port that a program
 * can have, and Node throws at the attempt to send there. A packet can name it as its source all the
 * same, so such packets are dropped here, before anybody could try to answer them.
 */
import { createSocket, type RemoteInfo, type Socket, type SocketOptions } from 'node:dgram'

export type { RemoteInfo, Socket }

/** A socket that never emits a `message` whose sender has port 0. */
export function createDatagramSocket(options: SocketOptions): Socket {
  const socket = createSocket(options)
  const emit = socket.emit.bind(socket)
  // Listeners cannot be relied on: each of them would have to look at the port by itself.
  socket.emit = (event: string | symbol, ...values: unknown[]) =>
    event === 'message' && !canBeAnswered(values[1]) ? false : emit(event, ...values)
  return socket
}

function canBeAnswered(sender: unknown): boolean {
  return typeof sender === 'object' && sender !== null && 'port' in sender && sender.port !== 0
}
