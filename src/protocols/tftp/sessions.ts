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
  const all = new Set<Session>()
  /** The same sessions, by the host and the port of the client. */
  const hosts = new Map<string, Map<number, Session>>()

  return {
    get size() {
      return all.size
    },
    [Symbol.iterator]: () => all.values(),
    get: ({ host, port }) => hosts.get(host)?.get(port),
    roomFor(host, now) {
      const ofHost = hosts.get(host)
      if (ofHost && ofHost.size >= limits.transfersPerAddress) return weakest(ofHost.values(), now)
      return all.size < limits.transfers ? 'free' : weakest(all, now)
    },
    add(session) {
      const { host, port } = session.peer
      const ofHost = hosts.get(host) ?? new Map<number, Session>()
      hosts.set(host, ofHost.set(port, session))
      all.add(session)
    },
    delete(session) {
      // The session may be deleted already.
      if (!all.delete(session)) return
      const { host, port } = session.peer
      const ofHost = hosts.get(host)
      ofHost?.delete(port)
      if (ofHost?.size === 0) hosts.delete(host)
    },
  }
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
