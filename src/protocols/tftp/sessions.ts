/** The transfers that are under way: how many there may be, and which of them has to give way. */
import type { FileHandle } from 'node:fs/promises'

import type { Transfer } from './transfer.ts'

export interface TftpLimits {
  /** Under way at once, each with a file and, but in single-port mode, a socket. */
  transfers: number
  /** From one address. */
  transfersPerAddress: number
}

export const defaultLimits: TftpLimits = { transfers: 256, transfersPerAddress: 64 }

/** A machine that has not got further for so long gives way to another one. Milliseconds. */
const stuckAfter = 5000

/** The client's end of a transfer. */
export interface Peer {
  /** Its address as the socket has it. */
  host: string
  port: number
}

export interface Session {
  peer: Peer
  /** The same in the words of a person: without what an IPv6 socket puts before IPv4. */
  address: string
  /** The request as it came: the same one again is a repetition. */
  request: Buffer
  file: string
  /** Bytes, once the file is open and where the length of what is sent is known. */
  size?: number
  handle?: FileHandle
  /** Once the file is open. */
  transfer?: Transfer
  blockSize: number
  /** Told to the person that it has begun. */
  isBegun: boolean
  send: (packet: Buffer) => void
  /** Of its socket, where it has one of its own. */
  close: () => void
}

export interface Sessions extends Iterable<Session> {
  readonly size: number
  get(peer: Peer): Session | undefined
  /** @returns which session must end before one more of this host can begin; undefined: none may */
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
      // Another one may have its place meanwhile.
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

/** The oldest from which nothing ever came back; else the one that has been stuck for longest. */
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
