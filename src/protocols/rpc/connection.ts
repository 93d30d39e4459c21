/**
 * One connection: receives calls and sends replies.
 *
 * Calls that arrive together are answered together: their replies are written at once. But the
 * connections of a machine work only in its share of each turn of the event loop, so that a machine
 * with many expensive calls does not delay others. A call that is not possible yet is run again
 * later, as if it had just come. While replies or calls pile up, the connection stops receiving. So
 * memory stays bounded if a client does not read, or calls faster than the disk can write.
 */
import type { Socket } from 'node:net'

import {
  answerCall,
  type Caller,
  type Held,
  type OnDefect,
  type Postponed,
  type Program,
} from './program.ts'
import type { LargeRecords } from './large-records.ts'
import type { MemoryPool } from './memory-pool.ts'
import { inTurn } from '../turns.ts'
import { lastFragment, markBytes, RecordReader, RecordTooLarge } from './record.ts'
import { XdrError, XdrWriter } from './xdr.ts'

/** The largest call: a WRITE of 1 MiB with its header. */
const maxRecordBytes = 2 ** 20 + 4096
/** The most bytes of replies that the client has not received yet. */
const maxPendingBytes = 2 ** 20
/** The most calls whose replies wait for stable storage. */
const maxHeldReplies = 256
/** Replies that have so many bytes together are sent, so that they keep only the memory that they need. */
const sentTogether = 64 * 1024
/** Bytes. */
const fewReplies = 16 * 1024
/** Smaller replies are copied if they must wait, since the memory that they were written to is larger. */
const smallReply = 8 * 1024
/**
 * A large call must arrive within this time. Otherwise the connection ends, and Linux sends again.
 */
const largeCallMs = 60_000

export interface ConnectionOptions {
  caller: Caller
  /** The machine at the other end, which may become known only after the beginning of the connection. */
  machineNow: () => string
  programs: readonly Program[]
  /** For calls and replies. */
  memory: MemoryPool
  onDefect: OnDefect
  /** Called after calls were answered. */
  onCalls: () => void
  /** Whether the client may send large calls, which need memory. */
  mayCallAtLength: () => boolean
  /** Shared by all connections. */
  largeRecords: LargeRecords
}

export function serveConnection(socket: Socket, options: ConnectionOptions): void {
  const { caller, memory, programs, onDefect } = options
  const { largeRecords } = options
  // Remembered once it is true: the client of a connection does not change.
  let mayCallAtLength = false
  const records = new RecordReader(
    maxRecordBytes,
    () => (mayCallAtLength ||= options.mayCallAtLength()),
    memory,
  )
  const released: Buffer[] = []
  let heldReplies = 0
  /** Calls that were not possible when they came, and are to be run again now. */
  const postponed: Buffer[] = []
  let isFlushing = false
  const machine = options.machineNow()
  /** The time of the machine in this turn is used up; the connection continues in a later turn. */
  let isResting = false
  /** Gives back the place of a large record, or leaves the queue for a place. */
  let leave: (() => void) | undefined
  let isWaiting = false

  socket.once('close', () => {
    leavePlace()
    records.free()
  })
  socket.on('data', (piece) => {
    if (records.push(piece)) free(piece)
    work()
  })
  socket.on('drain', work)

  function mayGoOn(): boolean {
    return socket.writableLength < maxPendingBytes && heldReplies < maxHeldReplies
  }

  function takePlace(): void {
    if (leave || !records.isWithinLargeRecord) return
    isWaiting = true
    let deadline: NodeJS.Timeout | undefined
    const giveBack = largeRecords.takePlace(options.machineNow(), () => {
      deadline = setTimeout(() => socket.destroy(), largeCallMs)
      isWaiting = false
      if (leave) work()
    })
    leave = () => {
      clearTimeout(deadline)
      giveBack()
    }
  }

  function leavePlace(): void {
    const left = leave
    leave = undefined
    left?.()
  }

  /** Answers the received calls, now or in a later turn. */
  function work(): void {
    if (socket.destroyed || isResting || (isWaiting && postponed.length === 0)) return
    isResting = !inTurn(machine, answerUntil) || isResting
    if (isResting) socket.pause()
  }

  /** @returns whether calls are left */
  function answerUntil(end: number): boolean {
    isResting = false
    if (socket.destroyed) return false
    let replies = new XdrWriter(fewReplies, memory)
    let calls = 0
    try {
      while (mayGoOn()) {
        isResting = performance.now() >= end
        if (isResting) break
        const again = postponed.shift()
        if (!again && isWaiting) break
        const record = again ?? records.next()
        if (!record) break
        if (!again) leavePlace()
        answer(record, replies, again !== undefined)
        calls++
        if (replies.length >= sentTogether) {
          send(replies)
          replies = new XdrWriter(fewReplies, memory)
        }
      }
    } catch (error) {
      // After this error the start of the next record is unknown, or the data are not RPC.
      if (!(error instanceof XdrError || error instanceof RecordTooLarge)) onDefect(error)
      socket.destroy()
    }
    send(replies)
    if (calls > 0) options.onCalls()
    if (socket.destroyed) return false
    takePlace()
    if (mayGoOn() && !isResting && !isWaiting) socket.resume()
    else socket.pause()
    return isResting
  }

  function answer(record: Buffer, replies: XdrWriter, isAgain: boolean): void {
    const start = replies.length
    const left = writeRecord(replies, () =>
      answerCall(record, caller, programs, onDefect, replies, isAgain),
    )
    if (!left) return
    const reply = Buffer.from(replies.written(start))
    replies.truncate(start)
    // Not closures here: they would keep the record in memory until the reply is sent.
    if ('again' in left) postpone(left, Buffer.from(record)).catch(giveUp)
    else hold(left, reply).catch(giveUp)
  }

  async function postpone({ again }: Postponed, record: Buffer): Promise<void> {
    heldReplies++
    // The second run tells if it is still not possible.
    await again.catch(() => {})
    heldReplies--
    postponed.push(record)
    work()
  }

  function giveUp(error: unknown): void {
    onDefect(error)
    socket.destroy()
  }

  async function hold(held: Held, reply: Buffer): Promise<void> {
    heldReplies++
    try {
      await held.until
      // The client closed the connection, so it must not be recorded as if it had the results.
      if (socket.destroyed) return
      const { results } = held
      released.push(results ? writeLater(results) : reply)
    } catch (error) {
      if (socket.destroyed) return
      released.push(writeLater((replies) => held.otherwise(error, replies)))
    }
    heldReplies--
    if (isFlushing) return
    isFlushing = true
    // Wait for other replies that become ready at the same moment.
    process.nextTick(flush)
  }

  function writeLater(write: (reply: XdrWriter) => void): Buffer {
    const replies = new XdrWriter(fewReplies, memory)
    writeRecord(replies, () => write(replies))
    const reply = Buffer.from(replies.written())
    replies.free()
    return reply
  }

  function flush(): void {
    isFlushing = false
    if (socket.destroyed) return
    socket.cork()
    for (const reply of released.splice(0)) socket.write(reply)
    socket.uncork()
    if (socket.isPaused()) work()
  }

  /** Frees the memory as soon as the socket does not need it any more. */
  function send(replies: XdrWriter): void {
    const bytes = replies.written()
    if (bytes.length === 0 || socket.destroyed) {
      replies.free()
    } else if (bytes.length > smallReply) {
      socket.write(bytes, () => replies.free())
    } else if (socket.writableLength > 0) {
      socket.write(Buffer.from(bytes))
      replies.free()
    } else {
      socket.write(bytes)
      // Nearly always, the kernel has taken all of it. Otherwise the memory is not used again.
      if (socket.writableLength === 0) replies.free()
    }
  }
}

/**
 * Frees the memory of a piece that the socket gave. If the pieces of large calls were left to the garbage
 * collector, V8 would collect all garbage after every few megabytes that machines write.
 */
function free({ buffer, length }: Buffer): void {
  // Small pieces may share memory with something else.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0)
}

/** Writes a record of one fragment. */
function writeRecord<Result>(writer: XdrWriter, write: () => Result): Result {
  const start = writer.length
  writer.uint32(0)
  const result = write()
  writer.replaceUint32(start, lastFragment + (writer.length - start - markBytes))
  return result
}
