/**
 * Gives connections to a process, one by one. So the process has read nothing from the connections that
 * still wait, and if it ends, they can go to the next process.
 *
 * Node forgets to close a socket if the process ends before it has taken the socket. So the socket stays
 * open here until the process has said that it has the socket.
 */
import type { Socket } from 'node:net'

import type { ToShard } from '../shard/messages.ts'
import { createQuota } from '../../protocols/quota.ts'

export type ConnectionMessage = ToShard & { kind: 'connection' }

export interface HandOver {
  /**
   * Gives a connection of a machine away, or keeps it until the process takes it. If too many wait, of the
   * machine or in all, closes it.
   */
  give(machine: string, message: ConnectionMessage, socket: Socket): void
  /** To be called if a process can take connections. */
  begin(): void
  /** To be called if the process has said that it has the connection. */
  taken(): void
  /** To be called if a ping was sent. */
  pinged: () => void
  /** To be called if the process has answered the ping. */
  answered(): void
  /** To be called if the process has ended. */
  ended(): void
  /** Closes all connections, also those that come later. */
  close(): void
}

interface Connection {
  message: ConnectionMessage
  socket: Socket
}

const limits = { most: 1024, mostOfKey: 32 }

/** @param send sends to the process; the socket must stay open here */
export function createHandOver(
  send: (message: ConnectionMessage, socket: Socket) => void,
): HandOver {
  const waiting: Connection[] = []
  const quota = createQuota(limits)
  /** The connection that is under way. */
  let passing: Connection | undefined
  /** The connection that was under way when the last ping was sent. */
  let passedBefore: Connection | undefined
  let [canTake, isClosed] = [false, false]

  function giveNext(): void {
    if (!canTake || passing) return
    do passing = waiting.shift()
    while (passing?.socket.destroyed)
    if (passing) send(passing.message, passing.socket)
  }

  /** If the process has the connection as well, the connection goes on there. */
  function closeHere(): void {
    passing?.socket.destroy()
    passing = undefined
  }

  return {
    give(machine, message, socket) {
      if (isClosed || !quota.take(machine)) {
        socket.destroy()
        return
      }
      waiting.push({ message, socket })
      socket.once('close', () => {
        quota.free(machine)
        const place = waiting.findIndex((each) => each.socket === socket)
        if (place !== -1) waiting.splice(place, 1)
      })
      giveNext()
    },
    begin() {
      canTake = true
      giveNext()
    },
    taken() {
      closeHere()
      giveNext()
    },
    pinged() {
      passedBefore = passing
    },
    answered() {
      // A process without free descriptors gets the message without the socket, or neither.
      if (passing !== passedBefore) return
      closeHere()
      giveNext()
    },
    ended() {
      canTake = false
      // The process may have read from it.
      closeHere()
    },
    close() {
      isClosed = true
      closeHere()
      for (const { socket } of waiting.splice(0)) socket.destroy()
    },
  }
}
