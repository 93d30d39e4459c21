/** Listens for TCP connections. The program that serves the connections may be another one. */
import { createServer, type Socket } from 'node:net'

import { listenError } from './listen.ts'

export interface TcpListenerOptions {
  /** The service and its transport, for error messages: `NFS (TCP)`. */
  name: string
  address: string
  /** 0: any free port. */
  port: number
  /**
   * How many connections may wait. If the queue is full, a SYN is lost, and the client waits for a
   * second or more.
   */
  backlog: number
  /** Called with each new connection. */
  accept: (socket: Socket) => void
  /** Nothing is read from a new connection, so that it can be given to another process. */
  pauseOnConnect?: boolean
  /** Called with errors while it listens. */
  onError: (error: Error) => void
}

export interface TcpListener {
  port: number
  /** Resolves when all its connections have ended as well. */
  close(): Promise<void>
}

/** @throws `NetimageError` `cannot-listen` */
export async function listenTcp(options: TcpListenerOptions): Promise<TcpListener> {
  const { name, address, port, backlog, pauseOnConnect = false, accept, onError } = options
  const server = createServer({ pauseOnConnect, noDelay: true }, accept)
  const listening = Promise.withResolvers<void>()
  server.once('error', (error) => listening.reject(listenError(name, options, error)))
  server.listen({ host: address, port, backlog }, listening.resolve)
  await listening.promise
  // For example if no file descriptor is left: only the new connection is lost.
  server.on('error', onError)
  const bound = server.address()
  let closed: Promise<void> | undefined
  return {
    port: typeof bound === 'object' && bound ? bound.port : port,
    close: () => (closed ??= new Promise((resolve) => void server.close(() => resolve()))),
  }
}
