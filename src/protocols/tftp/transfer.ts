/**
 * One file on its way to one client: packets and time go in, packets come out. [RFC 1350, 7440]
 *
 * Something is sent again because time has passed, or because the client says up to where it has the
 * window. If the same acknowledgment comes twice, the client may have missed the first block of the
 * window: then the window is sent once more, but only if the network alone can be the cause. Otherwise
 * each block would go out twice from then on. [RFC 1123 §4.2.3.1]
 */
import { messageOf } from '../../errors.ts'
import type { Blocks } from './blocks.ts'
import type { Agreement } from './options.ts'
import { encode, errorCode, type Packet } from './packet.ts'

export interface TransferOptions {
  blocks: Blocks
  agreement: Agreement
  send: (packet: Buffer) => void
}

/**
 * `offered`: nothing has come back yet, the client's address may be forged. `declined`: the client
 * only wanted to know the size, or does not like what was agreed.
 */
export type TransferState = 'offered' | 'sending' | 'ended' | 'declined' | 'failed'

export interface Transfer {
  readonly state: TransferState
  /** Blocks that the client has. */
  readonly acknowledged: number
  /** When the client last got further. */
  readonly progressed: number
  /** Of `failed`. */
  readonly reason: string | undefined
  receive(packet: Packet | undefined, now: number): void
  /** To be called when time has passed. */
  tick(now: number): void
  /** The client has sent its request again: it may have missed the first answer. */
  requestAgain(now: number): void
}

const firstTimeout = 1000
const longestTimeout = 8000
/** Who forges an address would have us flood it. */
const tries = { offered: 4, sending: 7 }

/** @param now milliseconds, of a clock that only goes forward */
export function startTransfer(options: TransferOptions, now: number): Transfer {
  const { blocks, agreement, send } = options
  const { windowSize, timeout, answer } = agreement
  const offer = answer.length > 0 ? encode({ kind: 'oack', options: answer }) : undefined

  let state: TransferState = 'offered'
  let reason: string | undefined
  let acknowledged = 0
  let sent = 0
  let progressed = now
  let tried = 0
  let deadline = 0
  /** Whether a repeated acknowledgment says that the first block of this window was lost. */
  let mayBeMissed = false

  function sendNext(now: number): void {
    tried++
    deadline = now + waitingTime()
    if (offer && state === 'offered') {
      send(offer)
      return
    }
    try {
      sent = acknowledged
      for (let left = windowSize; left > 0; left--) {
        const packet = blocks.packet(sent + 1)
        if (!packet) break
        send(packet)
        sent++
      }
    } catch (error) {
      fail(messageOf(error), errorCode.undefined)
    }
  }

  /** What was agreed on, or twice as long after each time that nothing came. [RFC 2349] */
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
    // What was sent more than once, the client acknowledges more than once. With blocks of one
    // window in hand twice, it would ask for the next one twice as well, and so on to the end.
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
      // An OACK is acknowledged as block 0. [RFC 2347]
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

  function receiveError(code: number, message: string): void {
    if (state === 'offered' && offer) state = 'declined'
    else fail(`the machine ended it: ${message || `error ${code}`}`)
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
    receive(packet, now) {
      if (isOver(state)) return
      if (packet?.kind === 'ack') receiveAck(packet.block, now)
      else if (packet?.kind === 'error') receiveError(packet.code, packet.message)
      else fail('the machine sent what does not belong to it', errorCode.illegalOperation)
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
