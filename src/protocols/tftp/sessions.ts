/** The running transfers: their limits, and which transfer ends if a new one needs its place. */
import type { SendAll, Transfer } from './transfer.ts'

export interface TftpLimits {
  /** At once. Each has an open file and, except in single-port mode, a socket. */
  transfers: number
  /** At once, of one machine. */
  transfersPerMachine: number
  /** A machine with more of them gives one up if there is no place for a machine with fewer. */
  transfersThatStay: number
}

/** Loaders fetch one file after the other. */
export const defaultLimits: TftpLimits = {
  ...{ transfers: 1024, transfersPerMachine: 64, transfersThatStay: 4 },
}

/** A transfer without progress for this time may be ended for a new one. Milliseconds. */
const stuckAfter = 5000

/** The client's end of a transfer. */
export interface Peer {
  /** The client's address as the socket gives it. */
  host: string
  port: number
}

export interface Newcomer {
  /** The machine, as its transfers are counted. */
  machine: string
  /** See `IsKnown`. */
  isKnown: boolean
}

export interface Session extends Newcomer {
  peer: Peer
  /** The same address without the prefix `::ffff:` that an IPv6 socket adds to IPv4 addresses. */
  address: string
  /** The bytes of the request, to recognise a repetition. */
  request: Buffer
  file: string
  /** Bytes that are sent; set when the file is open, unless the mode is netascii. */
  size?: number
  /** Set when the file is open. */
  transfer?: Transfer
  blockSize: number
  /** The packets of the client, and the check of the time, that wait until it is the turn of the machine. */
  waiting: number
  isCheckDue: boolean
  /** Whether the beginning was reported. */
  isBegun: boolean
  send: (packet: Buffer) => void
  sendAll?: SendAll | undefined
  /** Closes the session's own socket, if it has one. */
  close: () => void
  closeFile: () => void
}

export interface Sessions extends Iterable<Session> {
  readonly size: number
  get(peer: Peer): Session | undefined
  /**
   * @returns `free` if one more session of this machine can begin; or the session that must end
   *   before; or undefined if no more session can begin
   */
  roomFor(newcomer: Newcomer, now: number): 'free' | Session | undefined
  add(session: Session): void
  delete(session: Session): void
}

export function createSessions(limits: TftpLimits): Sessions {
  const all = new Set<Session>()
  /** The same sessions, by the host and the port of the client. */
  const hosts = new Map<string, Map<number, Session>>()
  const machines = new Map<string, Set<Session>>()

  /** The slowest transfer of the machine with the most, unless these are few. */
  function slowestOfGreediest(): Session | undefined {
    const most = [...machines.values()].reduce((one, other) =>
      one.size < other.size ? other : one,
    )
    return most.size > limits.transfersThatStay ? slowest(most) : undefined
  }

  /** Machines that are not known may all be one host, which keeps its transfers going slowly. */
  function slowestOfUnknown(): Session | undefined {
    return slowest([...all].filter((session) => !session.isKnown))
  }

  return {
    get size() {
      return all.size
    },
    [Symbol.iterator]: () => all.values(),
    get: ({ host, port }) => hosts.get(host)?.get(port),
    roomFor({ machine, isKnown }, now) {
      const own = machines.get(machine) ?? new Set()
      if (own.size >= limits.transfersPerMachine) return weakest(own, now)
      if (all.size < limits.transfers) return 'free'
      const weak = weakest(all, now)
      if (weak || own.size >= limits.transfersThatStay) return weak
      return slowestOfGreediest() ?? (isKnown ? slowestOfUnknown() : undefined)
    },
    add(session) {
      const { host, port } = session.peer
      const ofHost = hosts.get(host) ?? new Map<number, Session>()
      hosts.set(host, ofHost.set(port, session))
      const ofMachine = machines.get(session.machine) ?? new Set()
      machines.set(session.machine, ofMachine.add(session))
      all.add(session)
    },
    delete(session) {
      // The session may be deleted already.
      if (!all.delete(session)) return
      const { host, port } = session.peer
      const ofHost = hosts.get(host)
      ofHost?.delete(port)
      if (ofHost?.size === 0) hosts.delete(host)
      const ofMachine = machines.get(session.machine)
      ofMachine?.delete(session)
      if (ofMachine?.size === 0) machines.delete(session.machine)
    },
  }
}

/** A machine that was restarted may ask for the same file from the same port. */
export function isAbandoned({ transfer }: Session, now: number): boolean {
  return transfer?.state === 'sending' && now - transfer.progressed > 1000
}

/** The oldest session whose client never answered; if there is none, the one stuck for longest. */
function weakest(sessions: Iterable<Session>, now: number): Session | undefined {
  const found = slowest(sessions)
  return found && now - lastSign(found) > stuckAfter ? found : undefined
}

/** The session without progress for longest; before these, the oldest whose client never answered. */
function slowest(sessions: Iterable<Session>): Session | undefined {
  let found: Session | undefined
  for (const session of sessions) {
    if (!found || lastSign(session) < lastSign(found)) found = session
  }
  return found
}

function lastSign({ transfer }: Session): number {
  return !transfer || transfer.state === 'offered' ? -Infinity : transfer.progressed
}
