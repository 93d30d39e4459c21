/**
 * The transfer of one file to one client. This module only handles packets and times; the caller
 * has the socket and the clock. [RFC 1350, 7440]
 *
 * Blocks are sent again if time has passed, or if the client acknowledges only a part of the
 * window. If the same acknowledgment comes twice, the client may have missed the first block of the
 * window. Then the window is sent once more, but only if the previous window was sent once and
 * acknowledged as a whole. Otherwise each block would be sent twice until the end. [RFC 1123
 * §4.2.3.1]
 */
import { messageOf } from '../../errors.ts'
import type { Blocks } from './blocks.ts'
import type { Agreement } from './options.ts'
import { acknowledgedBlock, decode, encode, errorCode } from './packet.ts'

export interface TransferOptions {
  blocks: Blocks
  agreement: Agreement
  send: (packet: Buffer) => void
  /** Default: `send` for each packet. */
  sendAll?: SendAll | undefined
}

/** Sends the packets of a window. They have the same length, but the last may be shorter. */
export type SendAll = (packets: readonly Buffer[]) => void

/**
 * `offered`: the client has not answered yet, and its address may be forged. `declined`: the client
 * only wanted to know the size, or does not accept the options.
 */
export type TransferState = 'offered' | 'sending' | 'ended' | 'declined' | 'failed'

export interface Transfer {
  readonly state: TransferState
  /** The number of blocks that the client has. */
  readonly acknowledged: number
  /** The time of the last progress. */
  readonly progressed: number
  /** Why the transfer failed, if its state is `failed`. */
  readonly reason: string | undefined
  /** The client has sent these bytes. */
  receive(bytes: Buffer, now: number): void
  /** To be called when time has passed. */
  tick(now: number): void
  /** The client has sent its request again: it may have missed the first answer. */
  requestAgain(now: number): void
}

const firstTimeout = 1000
const longestTimeout = 8000
/**
 * Few while `offered`: otherwise a request with a forged address would make us flood the address.
 */
const tries = { offered: 4, sending: 7 }

/** @param now milliseconds of a monotonic clock */
export function startTransfer(options: TransferOptions, now: number): Transfer {
  const { blocks, agreement, send, sendAll = (packets) => packets.forEach(send) } = options
  const { windowSize, timeout, answer } = agreement
  const offer = answer.length > 0 ? encode({ kind: 'oack', options: answer }) : undefined

  let state: TransferState = 'offered'
  let reason: string | undefined
  let acknowledged = 0
  let sent = 0
  let progressed = now
  let tried = 0
  let deadline = 0
  /** Whether a repeated acknowledgment means that the first block of this window was lost. */
  let mayBeMissed = false

  function sendNext(now: number): void {
    tried++
    deadline = now + waitingTime()
    if (offer && state === 'offered') {
      send(offer)
      return
    }
    const packets: Buffer[] = []
    let failure: unknown
    try {
      while (packets.length < windowSize) {
        const packet = blocks.packet(acknowledged + packets.length + 1)
        if (!packet) break
        packets.push(packet)
      }
    } catch (error) {
      failure = error
    }
    sent = acknowledged + packets.length
    if (packets.length > 0) sendAll(packets)
    if (failure !== undefined) fail(messageOf(failure), errorCode.undefined)
  }

  /** The agreed timeout [RFC 2349], or a time that doubles with each try. */
  function waitingTime(): number {
    if (timeout !== undefined) return timeout * 1000
    return Math.min(longestTimeout, firstTimeout * 2 ** (tried - 1))
  }

  function fail(why: string, code?: number): void {
    state = 'failed'
    reason = why
    if (code !== undefined) send(encode({ kind: 'error', code, message: why }))
  }

  function progress(count: number, now: number): void {
    // The client acknowledges a block as often as it receives the block. If a window was sent
    // twice, a second acknowledgment is normal and does not mean a loss.
    mayBeMissed = windowSize > 1 && tried === 1 && count === sent - acknowledged
    acknowledged += count
    progressed = now
    tried = 0
    if (acknowledged > 0 && blocks.isLast(acknowledged)) {
      state = 'ended'
      return
    }
    state = 'sending'
    sendNext(now)
  }

  function receiveAck(block: number, now: number): void {
    if (offer && state === 'offered') {
      // The client acknowledges an OACK as block 0. [RFC 2347]
      if (block === 0) progress(0, now)
      return
    }
    const count = (block - acknowledged) & 0xffff
    if (count > 0 && count <= sent - acknowledged) progress(count, now)
    else if (count === 0 && mayBeMissed) {
      mayBeMissed = false
      sendNext(now)
    }
  }

  function receiveOther(bytes: Buffer): void {
    const packet = decode(bytes)
    if (packet?.kind === 'error') receiveError(packet.code, packet.message)
    else fail('the machine sent an unexpected packet', errorCode.illegalOperation)
  }

  function receiveError(code: number, message: string): void {
    if (state === 'offered' && offer) state = 'declined'
    else fail(`the machine ended the transfer: ${message || `error ${code}`}`)
  }

  sendNext(now)
  return {
    get state() {
      return state
    },
    get reason() {
      return reason
    },
    get acknowledged() {
      return acknowledged
    },
    get progressed() {
      return progressed
    },
    receive(bytes, now) {
      if (isOver(state)) return
      const block = acknowledgedBlock(bytes)
      if (block === undefined) receiveOther(bytes)
      else receiveAck(block, now)
    },
    tick(now) {
      if (isOver(state) || now < deadline) return
      if (tried < tries[state === 'offered' ? 'offered' : 'sending']) sendNext(now)
      else fail('the machine does not answer any more', errorCode.undefined)
    },
    requestAgain(now) {
      if (state === 'offered' && tried < tries.offered) sendNext(now)
    },
  }
}

export function isOver(state: TransferState): boolean {
  return state !== 'offered' && state !== 'sending'
}
