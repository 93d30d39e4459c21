/** The running transfers: their limits, and which transfer ends if a new one needs its place. */
import type { FileHandle } from 'node:fs/promises'

import type { Transfer } from './transfer.ts'

export interface TftpLimits {
  /** At once. Each has an open file and, except in single-port mode, a socket. */
  transfers: number
  /** At once, from one address. */
  transfersPerAddress: number
}

export const defaultLimits: TftpLimits = { transfers: 256, transfersPerAddress: 64 }

/** A transfer without progress for this time may be ended for a new one. Milliseconds. */
const stuckAfter = 5000

/** The client's end of a transfer. */
export interface Peer {
  /** The client's address as the socket gives it. */
  host: string
  port: number
}

export interface Session {
  peer: Peer
  /** The same address without the prefix `::ffff:` that an IPv6 socket adds to IPv4 addresses. */
  address: string
  /** The bytes of the request, to recognise a repetition. */
  request: Buffer
  file: string
  /** Bytes that are sent; set when the file is open, unless the mode is netascii. */
  size?: number
  handle?: FileHandle
  /** Set when the file is open. */
  transfer?: Transfer
  blockSize: number
  /** Whether the beginning was reported. */
  isBegun: boolean
  send: (packet: Buffer) => void
  /** Closes the session's own socket, if it has one. */
  close: () => void
}

export interface Sessions extends Iterable<Session> {
  readonly size: number
  get(peer: Peer): Session | undefined
  /**
   * @returns `free` if one more session of this host can begin; or the session that must end
   *   before; or undefined if no more session can begin
   */
  roomFor(host: string, now: number): 'free' | Session | undefined
  add(session: Session): void
  delete(session: Session): void
}

export function createSessions(limits: TftpLimits): Sessions {
  const all = new Map<string, Session>()
  const counts = new Map<string, number>()

  return {
    get size() {
      return all.size
    },
    [Symbol.iterator]: () => all.values(),
    get: (peer) => all.get(keyOf(peer)),
    roomFor(host, now) {
      if ((counts.get(host) ?? 0) >= limits.transfersPerAddress) {
        const ofHost = [...all.values()].filter(({ peer }) => peer.host === host)
        return weakest(ofHost, now)
      }
      return all.size < limits.transfers ? 'free' : weakest(all.values(), now)
    },
    add(session) {
      const { peer } = session
      all.set(keyOf(peer), session)
      counts.set(peer.host, (counts.get(peer.host) ?? 0) + 1)
    },
    delete(session) {
      const { peer } = session
      // A newer session of the same peer may have replaced this one.
      if (all.get(keyOf(peer)) !== session) return
      all.delete(keyOf(peer))
      const left = (counts.get(peer.host) ?? 0) - 1
      if (left > 0) counts.set(peer.host, left)
      else counts.delete(peer.host)
    },
  }
}

function keyOf({ host, port }: Peer): string {
  return `${host} ${port}`
}

/** The oldest session whose client never answered; if there is none, the one stuck for longest. */
function weakest(sessions: Iterable<Session>, now: number): Session | undefined {
  let stuck: { session: Session; since: number } | undefined
  for (const session of sessions) {
    const { transfer } = session
    if (!transfer || transfer.state === 'offered') return session
    const since = transfer.progressed
    if (now - since > stuckAfter && since < (stuck?.since ?? Infinity)) stuck = { session, since }
  }
  return stuck?.session
}
