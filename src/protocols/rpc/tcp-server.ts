/** RPC over TCP, with limits for connections and large calls. */
import type { Socket } from 'node:net'
import {
  createConnections,
  everyone,
  plainAddress,
  unknown,
  type ClientAt,
  type ConnectionLimits,
  type IsKnown,
} from '../connections.ts'
import type { Listener } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { listenTcp, type TcpService } from '../tcp-listener.ts'
import { serveConnection } from './connection.ts'
import { createLargeRecords } from './large-records.ts'
import { createMemoryPool } from './memory-pool.ts'
import type { Caller, OnDefect, Program } from './program.ts'

export interface TcpLimits extends ConnectionLimits {
  /** A connection is closed after this time without any data; clients then open a new one. */
  idleSeconds: number
}

/** Linux opens up to 16 connections to a server (`nconnect`), and closes idle ones after 300 s. */
const defaultLimits: TcpLimits = {
  connections: 512,
  connectionsPerAddress: 32,
  idleSeconds: 360,
}

export interface TcpServiceOptions {
  programs: readonly Program[]
  onDefect: OnDefect
  /** Default: calls of all clients are answered. */
  hears?: Hears | undefined
  /** The machine that has an address. Default: each address is a served machine of its own. */
  clientAt?: ClientAt | undefined
  /** Default: no machine. */
  isKnown?: IsKnown | undefined
  /**
   * Whether the programs have calls of more than a few kilobytes. Only machines that are served may
   * send these.
   */
  hasLongCalls: boolean
  /** Called at the beginning of each connection. */
  onEnter?: ((caller: Caller) => void) | undefined
  /** Called at the end of each connection. */
  onLeave?: ((caller: Caller) => void) | undefined
  limits?: TcpLimits
}

export interface TcpServerOptions extends TcpServiceOptions {
  /** The service, for error messages. */
  name: string
  address: string
  /** 0: any free port. */
  port: number
}

/**
 * How many calls of up to 1 MiB may arrive at the same time. A machine may leave each of its calls half sent
 * for a minute, and others must get places all the same.
 */
const largeLimits = { most: 64, mostOfKey: 16 }

/**
 * After 20 s without data, Node probes the client once a second; after 10 s the connection ends.
 */
const keepAliveMs = 20_000
/** The same after a shorter time without data, if there is a doubt that the client is there. */
const probeAfterMs = 1000

/** @throws `NetimageError` `cannot-listen` */
export async function startTcpServer(options: TcpServerOptions): Promise<Listener> {
  const { name, address, port, onDefect } = options
  return await listenTcp(
    { name: `${name} (TCP)`, address, port, onError: onDefect },
    createTcpService(options),
  )
}

/** Serves connections that were accepted elsewhere. */
export function createTcpService(options: TcpServiceOptions): TcpService {
  const { limits = defaultLimits, programs, onDefect, hears } = options
  const { clientAt = everyone, isKnown = unknown } = options
  const memory = createMemoryPool()
  const connections = createConnections(limits, { clientAt, isKnown })
  const largeRecords = createLargeRecords(largeLimits)

  function accept(socket: Socket): void {
    // If a connection breaks, Node closes it; this is no error of the server.
    socket.on('error', () => {})
    const address = plainAddress(socket.remoteAddress)
    if (address === undefined || hears?.(address) === false) {
      socket.destroy()
      return
    }
    socket.setKeepAlive(true, keepAliveMs)
    const probe = () => void socket.setKeepAlive(true, probeAfterMs)
    const caller: Caller = { address, transport: 'tcp', probe }
    options.onEnter?.(caller)
    connections.add(socket, address)
    socket.once('close', () => options.onLeave?.(caller))
    socket.setTimeout(limits.idleSeconds * 1000, () => socket.destroy())
    serveConnection(socket, {
      caller,
      machineNow: () => clientAt(address).name,
      programs,
      memory,
      onDefect,
      onCalls: () => connections.used(socket),
      mayCallAtLength: () => options.hasLongCalls && clientAt(address).isServed,
      largeRecords,
    })
  }

  return { accept, close: () => connections.destroy() }
}
