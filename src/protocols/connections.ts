/** The TCP connections of one server: their limits, and the choice of one to close. */
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  connections: number
  /** From one client. */
  connectionsPerAddress: number
}

/** Whether the client with this IP address is a served machine. */
export type IsServed = (address: string) => boolean

export interface Connections {
  /**
   * Accepts a new connection. If there are too many, one is closed, from the client that has the
   * most: first one that was never used; then one of a client that is not served; then, only for a
   * served client, the one that was idle for longest. If there is none to close, the new one is
   * closed.
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
  /** The time of the last use; 0: never used. Milliseconds. */
  active: number
}

export function createConnections(
  limits: ConnectionLimits,
  isServed: IsServed = () => true,
): Connections {
  const all = new Map<Socket, Connection>()
  const byClient = new Map<string, Set<Connection>>()

  function remove(connection: Connection): void {
    const { socket, address } = connection
    const ofClient = byClient.get(address)
    if (!all.delete(socket) || !ofClient) return
    ofClient.delete(connection)
    if (ofClient.size === 0) byClient.delete(address)
  }

  function end(connection: Connection): void {
    remove(connection)
    connection.socket.destroy()
  }

  /** @returns undefined if no connection may be closed for the new one */
  function leastWorth(newcomer: string): Connection | undefined {
    const connections = [...all.values()]
    const unused = ofGreediest(connections.filter(({ active }) => active === 0))
    if (unused) return unused
    const ofStrangers = ofGreediest(connections.filter(({ address }) => !isServed(address)))
    if (ofStrangers) return ofStrangers
    return isServed(newcomer) ? ofGreediest(connections) : undefined
  }

  return {
    add(socket, address) {
      const own = byClient.get(address)
      const isOneTooMany = own && own.size >= limits.connectionsPerAddress
      if (isOneTooMany || all.size >= limits.connections) {
        const least = isOneTooMany ? ofGreediest([...own]) : leastWorth(address)
        if (!least) {
          socket.destroy()
          return
        }
        end(least)
      }
      const connection: Connection = { socket, address, active: 0 }
      all.set(socket, connection)
      const ofClient = byClient.get(address) ?? new Set()
      byClient.set(address, ofClient.add(connection))
      socket.once('close', () => remove(connection))
    },
    used(socket) {
      const connection = all.get(socket)
      if (connection) connection.active = performance.now()
    },
    destroy() {
      for (const socket of all.keys()) socket.destroy()
    },
  }
}

/**
 * The client with the most of these connections is chosen, then its least recently used connection.
 * If there are several, the oldest is chosen.
 */
function ofGreediest(connections: readonly Connection[]): Connection | undefined {
  const counts = new Map<string, number>()
  for (const { address } of connections) counts.set(address, (counts.get(address) ?? 0) + 1)
  let found: Connection | undefined
  let most = 0
  for (const connection of connections) {
    const count = counts.get(connection.address) ?? 0
    if (count < most || (found && count === most && connection.active >= found.active)) continue
    found = connection
    most = count
  }
  return found
}

/** Removes the prefix `::ffff:` that an IPv6 socket adds to IPv4 addresses. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/, '')
}
