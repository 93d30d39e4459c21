/** The TCP connections of one server: how many there may be, and which of them has to give way. */
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  connections: number
  /** With one client. */
  connectionsPerAddress: number
}

/** Whether a client is one of those that are served at all, by its IP address. */
export type IsServed = (address: string) => boolean

export interface Connections {
  /**
   * Takes in a new connection, or ends it at once. If it is one too many, another ends: one that
   * never did anything; else one of a client that is not served; else the one that did nothing for
   * longest, of a client that has more than others.
   */
  add(socket: Socket, address: string): void
  /** Something was done for the client at its other end. */
  used(socket: Socket): void
  /** Ends all. */
  destroy(): void
}

interface Connection {
  socket: Socket
  address: string
  /** When it was last used; 0: never yet. Milliseconds. */
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

  /** @returns undefined if the new one is worth less than all that there are */
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

/** Of the client that has most of these, the one that was used least lately; of equals the oldest. */
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

/** An IPv4 address, also where it comes in the clothes of an IPv6 one. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/, '')
}
