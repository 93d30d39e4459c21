/** The TCP connections of one server: how many there may be, and which of them has to give way. */
import type { Socket } from 'node:net'

export interface ConnectionLimits {
  connections: number
  /** With one client. */
  connectionsPerAddress: number
}

export interface Connections {
  /** Takes in a new one; where it is one too many, the one that has been idle for longest ends. */
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

  function makeRoom(connections: Iterable<Connection>, most: number): void {
    const open = [...connections].filter(({ socket }) => !socket.destroyed)
    if (open.length < most) return
    open.reduce((idlest, other) => (other.active < idlest.active ? other : idlest)).socket.destroy()
  }

  return {
    add(socket, address) {
      const ofClient = [...all.values()].filter((other) => other.address === address)
      makeRoom(ofClient, limits.connectionsPerAddress)
      makeRoom(all.values(), limits.connections)
      all.set(socket, { socket, address, active: 0 })
      socket.once('close', () => all.delete(socket))
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
