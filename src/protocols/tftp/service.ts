/** Serves TFTP to clients, which can only read. [RFC 1350, 2347, 2348, 2349, 7440] */
import { performance } from 'node:perf_hooks'

import { messageOf, type NetimageError } from '../../errors.ts'
import { everyone, plainAddress, unknown, type ClientAt, type IsKnown } from '../connections.ts'
import {
  openBootFile,
  toldOf,
  type NoBootFile,
  type OpenBootFile,
  type TreesOf,
} from '../boot-files.ts'
import { defect } from '../defect.ts'
import type { FileEvent, Report } from '../event.ts'
import { createQuota } from '../quota.ts'
import { inTurn } from '../turns.ts'
import { createBlocks } from './blocks.ts'
import { netascii, octets } from './content.ts'
import { createNativePorts } from './native-ports.ts'
import { negotiate } from './options.ts'
import { decode, encode, errorCode, textIn, type FileRequest } from './packet.ts'
import { openDatagramPort, type OpenPort } from './ports.ts'
import {
  createSessions,
  defaultLimits,
  isAbandoned,
  type Peer,
  type Session,
  type TftpLimits,
} from './sessions.ts'
import { isOver, startTransfer, type Transfer } from './transfer.ts'

export interface TftpServiceOptions {
  /** The IPv4 or IPv6 address that packets are sent from. */
  address: string
  treesOf: TreesOf
  /** Sends all packets of all transfers from one port, for NAT and firewalls. */
  singlePort?: boolean
  /** Opens the ports of transfers whose windows are small. Default: by the addon if there is one. */
  openPort?: OpenPort
  report: Report
  /** The machine that has an address. Default: each address is a machine of its own. */
  clientAt?: ClientAt
  /** Default: no machine. */
  isKnown?: IsKnown
  /** Called with errors that no machine caused: a failing disk, a defect of netimage. */
  onError: (error: NetimageError) => void
  limits?: TftpLimits
}

export interface TftpService {
  /** Handles a packet that was sent to the port of the server. */
  receive: (packet: Buffer, from: Peer) => void
  /** Ends all transfers. */
  close: () => void
}

/** How often waiting transfers are checked. Milliseconds. */
const tickEvery = 100
/**
 * How many files may be opening at once, because requests may come faster than a disk answers; and how
 * many of them for one machine, so that a machine does not stop the others.
 */
const openingLimits = { most: 256, mostOfKey: 16 }
/** How many packets of a transfer may wait. A client sends one for each window. */
const maxWaiting = 4
/** The send buffer of a port has room for a window of this size. */
const smallWindowBytes = 1 << 16

/** @param send sends a packet that belongs to no transfer with a port of its own */
export function createTftpService(
  options: TftpServiceOptions,
  send: (to: Peer, packet: Buffer) => void,
): TftpService {
  const { address, treesOf, report, onError, limits = defaultLimits } = options
  const { openPort = defaultPorts(), clientAt = everyone, isKnown = unknown } = options
  const sessions = createSessions(limits)
  let timer: NodeJS.Timeout | undefined
  const opening = createQuota(openingLimits)

  function receive(bytes: Buffer, peer: Peer): void {
    const packet = decode(bytes)
    if (packet?.kind === 'read') {
      begin(bytes, packet.request, peer)
      return
    }
    const session = sessions.get(peer)
    if (options.singlePort && session?.transfer) receiveIn(session, bytes)
    else if (!packet) {
      reject(peer, 'illegalOperation', textIn(bytes), 'the packet is not TFTP')
    } else if (packet.kind === 'write') {
      reject(peer, 'accessViolation', packet.request.file, 'files can only be read here')
    } else if (packet.kind !== 'error') {
      // No report: this is mostly a late packet of a transfer that has ended already.
      answer(peer, 'unknownTransfer', 'there is no such transfer')
    }
  }

  /** Refuses a packet that cannot begin a transfer. */
  function reject(peer: Peer, code: keyof typeof errorCode, file: string, reason: string): void {
    answer(peer, code, reason)
    const address = plainAddress(peer.host) ?? ''
    report({ kind: 'tftp', step: 'refuse', address, file, bytes: 0, reason })
  }

  function answer(peer: Peer, code: keyof typeof errorCode, message: string): void {
    send(peer, errorPacket(code, message))
  }

  function begin(request: Buffer, asked: FileRequest, peer: Peer): void {
    const now = performance.now()
    const known = sessions.get(peer)
    if (known) {
      if (known.request.equals(request) && !isAbandoned(known, now)) {
        known.transfer?.requestAgain(now)
        return
      }
      // No error packet: the machine would take it for the answer to its new request.
      abandon(known, 'the machine sent a new request')
    }
    if (asked.mode !== 'octet' && asked.mode !== 'netascii') {
      reject(peer, 'illegalOperation', asked.file, `the mode ${asked.mode} is not supported`)
      return
    }
    const address = plainAddress(peer.host) ?? ''
    const machine = clientAt(address).name
    const newcomer = { machine, isKnown: isKnown(machine) }
    const room = sessions.roomFor(newcomer, now)
    // No error packet: it would end the boot of the machine. Without one the machine asks again.
    if (!room || !opening.take(machine)) return
    if (room !== 'free') end(room, 'another transfer needed its place')
    const session: Session = {
      ...{ ...newcomer, peer, address, request: Buffer.from(request) },
      ...{ file: asked.file, blockSize: 512, waiting: 0, isCheckDue: false },
      ...{ isBegun: false, send: ignore, close: ignore, closeFile: ignore },
    }
    sessions.add(session)
    timer ??= setInterval(tick, tickEvery)
    openBootFile(treesOf, { address: session.address, protocol: 'tftp' }, asked.file)
      .finally(() => opening.free(machine))
      .then((found) => {
        if (sessions.get(peer) !== session) {
          if (found.kind === 'file') found.close()
        } else if (found.kind === 'file') serve(session, asked, found)
        else refuse(session, found)
      })
      .catch((error: unknown) => {
        drop(session)
        onError(defect('TFTP', error))
      })
  }

  function refuse(session: Session, found: NoBootFile): void {
    drop(session)
    const { kind } = found
    // An error packet would end the boot of the machine. Without one the machine asks again.
    if (kind !== 'busy') {
      answer(session.peer, kind === 'missing' ? 'notFound' : 'accessViolation', found.reason)
    }
    const { step, reason } = toldOf(found)
    tell(session, step, reason)
  }

  function serve(session: Session, asked: FileRequest, { file, close }: OpenBootFile): void {
    const { size } = file
    const isOctet = asked.mode === 'octet'
    const agreement = negotiate(asked.options, isOctet ? size : undefined)
    const { blockSize, windowSize } = agreement
    const blocks = createBlocks(isOctet ? octets(file) : netascii(file), blockSize, windowSize)
    session.closeFile = close
    session.blockSize = blockSize
    if (isOctet) session.size = size
    if (options.singlePort) session.send = (packet) => send(session.peer, packet)
    else openPortOf(session, blockSize * windowSize)
    if (sessions.get(session.peer) !== session) return
    const packets = { send: session.send, sendAll: session.sendAll }
    session.transfer = startTransfer({ blocks, agreement, ...packets }, performance.now())
    follow(session, session.transfer)
  }

  /** The server's identifier of a transfer is a port of its own. [RFC 1350 §4] */
  function openPortOf(session: Session, windowBytes: number): void {
    const fail = (error: unknown) => {
      const reason = `could not send to the machine: ${messageOf(error)}`
      if (!session.isBegun) tell(session, 'fail', reason)
      end(session, reason)
    }
    const open = windowBytes <= smallWindowBytes ? openPort : openDatagramPort
    try {
      const receive = (packet: Buffer) => receiveIn(session, packet)
      const port = open({ address, peer: session.peer, receive, fail })
      session.send = port.send
      session.sendAll = port.sendAll
      session.close = port.close
    } catch (error) {
      fail(error)
    }
  }

  function receiveIn(session: Session, bytes: Buffer): void {
    // As if it were lost on the network.
    if (session.waiting === maxWaiting) return
    session.waiting++
    let packet = bytes
    const isDone = inTurn(session.machine, () => {
      session.waiting--
      goOn(session, (transfer, now) => transfer.receive(packet, now))
      return false
    })
    // The bytes are valid only during this call.
    if (!isDone) packet = Buffer.from(bytes)
  }

  function tick(): void {
    for (const session of sessions) {
      if (session.isCheckDue) continue
      session.isCheckDue = true
      inTurn(session.machine, () => {
        session.isCheckDue = false
        goOn(session, (transfer, now) => transfer.tick(now))
        return false
      })
    }
  }

  function goOn(session: Session, act: (transfer: Transfer, now: number) => void): void {
    const { transfer } = session
    // The transfer may have ended while this waited.
    if (!transfer || sessions.get(session.peer) !== session) return
    act(transfer, performance.now())
    follow(session, transfer)
  }

  function follow(session: Session, transfer: Transfer): void {
    const { state } = transfer
    if (!session.isBegun && (state === 'sending' || state === 'ended')) {
      session.isBegun = true
      tell(session, 'begin')
    }
    if (!isOver(state)) return
    drop(session)
    if (state === 'ended') tell(session, 'end')
    else if (state === 'failed') tell(session, 'fail', transfer.reason)
  }

  /** Ends an unfinished transfer, and tells the machine. */
  function end(session: Session, reason: string): void {
    if (session.isBegun) session.send(errorPacket('undefined', reason))
    abandon(session, reason)
  }

  function abandon(session: Session, reason: string): void {
    drop(session)
    if (session.isBegun) tell(session, 'fail', reason)
  }

  function drop(session: Session): void {
    sessions.delete(session)
    session.close()
    session.close = ignore
    session.send = ignore
    session.closeFile()
    session.closeFile = ignore
    if (sessions.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  function tell(session: Session, step: FileEvent['step'], reason?: string): void {
    const { address, file, size, blockSize, transfer } = session
    const sent = (transfer?.acknowledged ?? 0) * blockSize
    report({
      ...{ kind: 'tftp', step, address, file, bytes: Math.min(sent, size ?? Infinity) },
      ...(size !== undefined && { size }),
      ...(reason !== undefined && { reason }),
    })
  }

  return {
    receive,
    close() {
      for (const session of sessions) end(session, 'the server is stopping')
    },
  }
}

let ports: OpenPort | undefined

/** The addon is loaded once in a process. */
function defaultPorts(): OpenPort {
  return (ports ??= createNativePorts() ?? openDatagramPort)
}

function errorPacket(code: keyof typeof errorCode, message: string): Buffer {
  return encode({ kind: 'error', code: errorCode[code], message })
}

function ignore(): void {}
