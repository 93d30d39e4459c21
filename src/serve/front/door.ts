/** Holds each new connection until the name of its machine is known. */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

import { plainAddress } from '../../protocols/connections.ts'
import type { Hears } from '../../protocols/on-interface.ts'
import type { TcpService } from '../../protocols/tcp-listener.ts'
import type { Identities } from '../identity.ts'
import type { NamedClient } from '../shard/messages.ts'
import { createQuota } from '../../protocols/quota.ts'

export interface DoorSettings {
  identities: Pick<Identities, 'nameSoon'>
  hears: Hears
  /** Called with a connection from which nothing was read, and its machine. */
  onNamed: (client: NamedClient, socket: Socket) => void
}

/** The kernel learns the hardware address of a machine with its first packet. */
const [tries, pauseMs] = [20, 250]
/** The most connections that wait at once. */
const limits = { most: 512, mostOfKey: 32 }

/**
 * @returns a service whose `close` ends the connections that wait, and all that come later. Nobody reads
 *   from them, so that otherwise nothing would keep a process alive that waits for their end.
 */
export function createDoor({ identities, hears, onNamed }: DoorSettings): TcpService {
  /** By address, because names are not known yet. */
  const quota = createQuota(limits)
  const sockets = new Set<Socket>()
  let isClosed = false

  async function nameOf(address: string, socket: Socket): Promise<string | undefined> {
    for (let left = tries; left > 0 && !socket.destroyed; left--) {
      const name = await identities.nameSoon(address)
      if (name !== undefined) return name
      await sleep(pauseMs, undefined, { ref: false })
    }
    return undefined
  }

  async function come(address: string, socket: Socket): Promise<void> {
    if (isClosed || !quota.take(address)) {
      socket.destroy()
      return
    }
    sockets.add(socket)
    const name = await nameOf(address, socket)
    sockets.delete(socket)
    quota.free(address)
    if (name === undefined || socket.destroyed) socket.destroy()
    else onNamed({ address, name }, socket)
  }

  return {
    accept(socket) {
      // If a connection breaks, Node closes it; this is no error of the server.
      socket.on('error', () => {})
      const address = plainAddress(socket.remoteAddress)
      if (address === undefined || !hears(address)) socket.destroy()
      else void come(address, socket)
    },
    close() {
      isClosed = true
      for (const socket of sockets) socket.destroy()
    },
  }
}
