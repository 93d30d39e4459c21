/** RPC over TCP: the connections, how many there may be, and which of them has to give way. */
import { createServer, type Socket } from 'node:net'
import { listenError } from '../listen.ts'
import { serveConnection } from './connection.ts'
import type { OnDefect, Program } from './program.ts'
import { createReplyBuffers } from './reply-buffers.ts'

export interface TcpLimits {
  connections: number
  /** With one client. */
  connectionsPerAddress: number
  /** A connection on which nothing happens for so long is closed; clients make a new one. */
  idleSeconds: number
}

/** Linux makes up to 16 connections with a server (`nconnect`), and leaves idle ones after 300 s. */
const defaultLimits: TcpLimits = {
  connections: 512,
  connectionsPerAddress: 32,
  idleSeconds: 360,
}

export interface TcpServerOptions {
  /** For errors: what is served. */
  name: string
  address: string
  /** 0: any that is free. */
  port: number
  programs: readonly Program[]
  onDefect: OnDefect
  limits?: TcpLimits
}

export interface RpcServer {
  port: number
  /** Ends all connections as well. */
  close(): Promise<void>
}

interface Connection {
  socket: Socket
  address: string
  /** When it last had a call; of one that never had: 0. Milliseconds. */
  active: number
}

/** @throws `NetimageError` `cannot-listen` */
export async function startTcpServer(options: TcpServerOptions): Promise<RpcServer> {
  const { limits = defaultLimits, programs, onDefect } = options
  const buffers = createReplyBuffers()
  const connections = new Set<Connection>()

  const server = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    // A connection that breaks is the client's affair; it is closed by itself.
    socket.on('error', () => {})
    const address = plainAddress(socket.remoteAddress)
    if (address === undefined) {
      socket.destroy()
      return
    }
    makeRoom(
      [...connections].filter((other) => other.address === address),
      {
        most: limits.connectionsPerAddress,
      },
    )
    makeRoom(connections, { most: limits.connections })
    const connection: Connection = { socket, address, active: 0 }
    connections.add(connection)
    socket.on('close', () => connections.delete(connection))
    socket.setTimeout(limits.idleSeconds * 1000, () => socket.destroy())
    serveConnection(socket, {
      address,
      programs,
      buffers,
      onDefect,
      onCalls: () => {
        connection.active = performance.now()
      },
    })
  })

  const listening = Promise.withResolvers<void>()
  server.once('error', (error) =>
    listening.reject(listenError(`${options.name} (TCP)`, options, error)),
  )
  server.listen({ host: options.address, port: options.port, backlog: 128 }, listening.resolve)
  await listening.promise
  // Such as when no descriptors are left: that connection is lost, others are served on.
  server.on('error', onDefect)

  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound ? bound.port : options.port,
    async close() {
      const closed = new Promise((resolve) => void server.close(resolve))
      for (const { socket } of connections) socket.destroy()
      await closed
    },
  }
}

/** Ends the connection that has been idle for longest where one more would be too many. */
function makeRoom(connections: Iterable<Connection>, { most }: { most: number }): void {
  const open = [...connections].filter(({ socket }) => !socket.destroyed)
  if (open.length < most) return
  open.reduce((idlest, other) => (other.active < idlest.active ? other : idlest)).socket.destroy()
}

/** An IPv4 address, also where it comes in the clothes of an IPv6 one. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/, '')
}
