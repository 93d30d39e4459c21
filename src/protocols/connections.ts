/** The TCP connections of one server: their limits, and the choice of one to close. */
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  connections: number
  /** From one IP address. */
  connectionsPerAddress: number
}

/** The machine at the other end of a connection. */
export interface Client {
  /** Equal for all addresses of one machine. */
  name: string
  /** Whether the server may serve this machine. */
  isServed: boolean
}

export type ClientAt = (address: string) => Client

/**
 * Whether the machine is known from before. One host can have very many addresses, and be as many machines
 * that are served. If there is not room for all, known machines come first.
 */
export type IsKnown = (machine: string) => boolean

/** Each machine may be invented. */
export const unknown: IsKnown = () => false

/** Each address is a machine of its own, which is served. */
export const everyone: ClientAt = (address) => ({ name: address, isServed: true })

export interface Connections {
  /**
   * Accepts a new connection. If there are too many, one is closed, from a client that is not served
   * if there is one, or else from one that is not known. Among these, or else among all, it is:
   *
   * 1. one that has been open for a while and was never used, of the client with the most of these;
   * 2. else, of the client with the most connections, one that was never used;
   * 3. else, of the same client, the one that was idle for longest.
   *
   * A new connection was not used yet. It may be the only one of a machine, so the connections of a
   * client that has many are closed before it. If there is none to close, the new one is closed.
   */
  add(socket: Socket, address: string): void
  /** To be called when the connection was used. */
  used(socket: Socket): void
  /** Closes all connections. */
  destroy(): void
}

interface Connection {
  socket: Socket
  address: string
  client: Client
  isKnown: boolean
  isUsed: boolean
  /** The time of the last use, or of its beginning. Milliseconds on the clock `now`. */
  active: number
}

/** Clients call as soon as they are connected. This allows for slow clients and a busy server. */
const firstUseMs = 5000

export function createConnections(
  limits: ConnectionLimits,
  { clientAt = everyone, isKnown = unknown }: { clientAt?: ClientAt; isKnown?: IsKnown } = {},
  now: () => number = () => performance.now(),
): Connections {
  const all = new Map<Socket, Connection>()
  const byAddress = new Map<string, Set<Connection>>()

  function remove(connection: Connection): void {
    const { socket, address } = connection
    const ofAddress = byAddress.get(address)
    if (!all.delete(socket) || !ofAddress) return
    ofAddress.delete(connection)
    if (ofAddress.size === 0) byAddress.delete(address)
  }

  function end(connection: Connection): void {
    remove(connection)
    connection.socket.destroy()
  }

  function leastWorth(connections: readonly Connection[]): Connection | undefined {
    const before = now() - firstUseMs
    const unused = connections.filter(({ isUsed, active }) => !isUsed && active < before)
    return ofGreediest(unused) ?? ofGreediest(connections)
  }

  /** @returns undefined if no connection may be closed for the new one */
  function leastWorthOfAll(newcomer: Client): Connection | undefined {
    const connections = [...all.values()]
    const ofStrangers = leastWorth(connections.filter(({ client }) => !client.isServed))
    if (ofStrangers || !newcomer.isServed) return ofStrangers
    const ofUnknown = leastWorth(connections.filter((each) => !each.isKnown))
    return ofUnknown ?? leastWorth(connections)
  }

  return {
    add(socket, address) {
      const client = clientAt(address)
      const own = byAddress.get(address)
      const isOneTooMany = own && own.size >= limits.connectionsPerAddress
      if (isOneTooMany || all.size >= limits.connections) {
        const least = isOneTooMany ? leastWorth([...own]) : leastWorthOfAll(client)
        if (!least) {
          socket.destroy()
          return
        }
        end(least)
      }
      const connection: Connection = {
        ...{ socket, address, client, isUsed: false, active: now() },
        isKnown: isKnown(client.name),
      }
      all.set(socket, connection)
      const ofAddress = byAddress.get(address) ?? new Set()
      byAddress.set(address, ofAddress.add(connection))
      socket.once('close', () => remove(connection))
    },
    used(socket) {
      const connection = all.get(socket)
      if (!connection) return
      connection.isUsed = true
      connection.active = now()
    },
    destroy() {
      for (const socket of all.keys()) socket.destroy()
    },
  }
}

/**
 * Chooses the client with the most of these connections, then its oldest connection that was never
 * used, or else its least recently used connection.
 */
function ofGreediest(connections: readonly Connection[]): Connection | undefined {
  const byClient = [...Map.groupBy(connections, ({ client }) => client.name).values()]
  const most = Math.max(...byClient.map(({ length }) => length))
  // If several clients have the most, choose the one whose connection was idle for longest.
  const idlest = leastRecent(byClient.filter(({ length }) => length === most).flat())
  const own = connections.filter(({ client }) => client.name === idlest?.client.name)
  return leastRecent(own.filter(({ isUsed }) => !isUsed)) ?? leastRecent(own)
}

function leastRecent(connections: readonly Connection[]): Connection | undefined {
  return connections.reduce<Connection | undefined>(
    (one, other) => (one && one.active <= other.active ? one : other),
    undefined,
  )
}

/** Removes the prefix `::ffff:` that an IPv6 socket adds to IPv4 addresses. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/, '')
}
