/** The TCP connections of one server: how many there may be, and which of them has to give way. */
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  connections: number
  /** With one client. */
  connectionsPerAddress: number
}

export interface Connections {
  /**
   * Takes in a new one. Where it is one too many, one ends of the client that has the most: who has
   * only a few keeps them, whatever the others do.
   */
  add(socket: Socket, address: string): void
  /** Something was done for who is at its other end. */
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

export function createConnections(limits: ConnectionLimits): Connections {
  const all = new Map<Socket, Connection>()
  const byClient = new Map<string, Set<Connection>>()

  function remove(connection: Connection): void {
    const { socket, address } = connection
    const ofClient = byClient.get(address)
    if (!all.delete(socket) || !ofClient) return
    ofClient.delete(connection)
    if (ofClient.size === 0) byClient.delete(address)
  }

  function endIdlest(connections: Iterable<Connection>): void {
    const idlest = [...connections].reduce((one, other) =>
      other.active < one.active ? other : one,
    )
    remove(idlest)
    idlest.socket.destroy()
  }

  return {
    add(socket, address) {
      const own = byClient.get(address)
      if (own && own.size >= limits.connectionsPerAddress) endIdlest(own)
      else if (all.size >= limits.connections) {
        endIdlest(
          [...byClient.values()].reduce((one, other) => (other.size > one.size ? other : one)),
        )
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

/** An IPv4 address, also where it comes in the clothes of an IPv6 one. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/, '')
}
