/** Listens for TCP connections. The program that serves the connections may be another one. */
import { createServer, type Socket } from 'node:net'

import { listenError, type Listener } from './listen.ts'

export interface TcpListenerOptions {
  /** The service and its transport, for error messages: `NFS (TCP)`. */
  name: string
  address: string
  /** 0: any free port. */
  port: number
  /** Nothing is read from a new connection, so that it can be given to another process. */
  pauseOnConnect?: boolean | undefined
  /** Called with errors while it listens. */
  onError: (error: Error) => void
}

export interface TcpService {
  /** Serves a connection from which nothing was read yet. */
  accept: (socket: Socket) => void
  /** Ends all connections. */
  close: () => void
}

/**
 * How many connections may wait. If the queue is full, a SYN is lost, and the client waits for a second or
 * more.
 */
const backlog = 512

/**
 * @returns a listener whose `close` also closes the service, and resolves when all connections have ended
 * @throws `NetimageError` `cannot-listen`
 */
export async function listenTcp(
  options: TcpListenerOptions,
  service: TcpService,
): Promise<Listener> {
  const { name, address, port, pauseOnConnect = false, onError } = options
  const server = createServer({ pauseOnConnect, noDelay: true }, service.accept)
  const listening = Promise.withResolvers<void>()
  server.once('error', (error) => listening.reject(listenError(name, options, error)))
  server.listen({ host: address, port, backlog }, listening.resolve)
  await listening.promise
  // For example if no file descriptor is left: only the new connection is lost.
  server.on('error', onError)
  const bound = server.address()
  let closed: Promise<void> | undefined
  function close(): Promise<void> {
    const ended = new Promise<void>((resolve) => void server.close(() => resolve()))
    service.close()
    return ended
  }
  return {
    port: typeof bound === 'object' && bound ? bound.port : port,
    close: () => (closed ??= close()),
  }
}
