/** RPC over TCP: the connections, how many there may be, and which of them has to give way. */
import { createServer } from 'node:net'
import {
  createConnections,
  plainAddress,
  type ClientAt,
  type ConnectionLimits,
} from '../connections.ts'
import { listenError } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { serveConnection } from './connection.ts'
import { createLargeRecords } from './large-records.ts'
import type { Caller, OnDefect, Program } from './program.ts'
import { createReplyBuffers } from './reply-buffers.ts'

export interface TcpLimits extends ConnectionLimits {
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
  /** Default: everybody. */
  hears?: Hears | undefined
  /** The machine that has an address. Default: each address is a served machine of its own. */
  clientAt?: ClientAt | undefined
  /** Whether the caller may make calls that take more than a few kilobytes; default: everybody. */
  mayCallAtLength?: (caller: Caller) => boolean
  /** Told of the end of each connection. */
  onLeave?: ((caller: Caller) => void) | undefined
  limits?: TcpLimits
}

export interface RpcServer {
  port: number
  /** Ends all connections as well. */
  close(): Promise<void>
}

/** Calls of up to a mebibyte that are on their way at a time, of all connections. */
const maxLargeRecords = 64

/** A client that lost its power is noticed ten seconds later: Node asks once a second then. */
const keepAliveMs = 20_000

/** @throws `NetimageError` `cannot-listen` */
export async function startTcpServer(options: TcpServerOptions): Promise<RpcServer> {
  const { limits = defaultLimits, programs, onDefect, hears } = options
  const buffers = createReplyBuffers()
  const connections = createConnections(limits, options.clientAt)
  const largeRecords = createLargeRecords(maxLargeRecords)

  const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveMs }
  const server = createServer({ noDelay: true, ...keepAlive }, (socket) => {
    // A connection that breaks is the client's affair; it is closed by itself.
    socket.on('error', () => {})
    const address = plainAddress(socket.remoteAddress)
    if (address === undefined || hears?.(address) === false) {
      socket.destroy()
      return
    }
    const caller: Caller = { address, transport: 'tcp' }
    connections.add(socket, address)
    socket.once('close', () => options.onLeave?.(caller))
    socket.setTimeout(limits.idleSeconds * 1000, () => socket.destroy())
    serveConnection(socket, {
      caller,
      programs,
      buffers,
      onDefect,
      onCalls: () => connections.used(socket),
      mayCallAtLength: () => options.mayCallAtLength?.(caller) !== false,
      largeRecords,
    })
  })

  const listening = Promise.withResolvers<void>()
  server.once('error', (error) =>
    listening.reject(listenError(`${options.name} (TCP)`, options, error)),
  )
  const { address: host, port } = options
  // Whoever is in the queue gets its turn, where a SYN that finds no room is lost for a second or more.
  server.listen({ host, port, backlog: limits.connections }, listening.resolve)
  await listening.promise
  // Such as when no descriptors are left: that connection is lost, others are served on.
  server.on('error', onDefect)

  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound ? bound.port : options.port,
    async close() {
      const closed = new Promise((resolve) => void server.close(resolve))
      connections.destroy()
      await closed
    },
  }
}
