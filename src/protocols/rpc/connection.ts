/**
 * One connection that calls come in by and replies go out by.
 *
 * Calls that arrive together are answered together: their replies are written at once. But a
 * connection works only for a few milliseconds in each turn of the event loop, and then the others
 * have theirs: a client that sends many dear calls holds up nobody else. It stops receiving while
 * replies or calls pile up, so that a client that does not read, or calls faster than the disk can
 * follow, costs bounded memory.
 */
import type { Socket } from 'node:net'

import { answerCall, type Caller, type Held, type OnDefect, type Program } from './program.ts'
import { lastFragment, markBytes, RecordReader, RecordTooLarge } from './record.ts'
import type { ReplyBuffers } from './reply-buffers.ts'
import { XdrError, type XdrWriter } from './xdr.ts'

/** The largest call: a WRITE of 1 MiB and what stands around it. */
const maxRecordBytes = 2 ** 20 + 4096
/** Replies that the client has not taken yet. */
const maxPendingBytes = 2 ** 20
/** Calls whose replies wait for stable storage. */
const maxHeldReplies = 256
/** A reply up to here is copied, and its large buffer free again at once. */
const maxCopiedBytes = 16 * 1024
/** How long it works in one turn of the event loop, but for the call that it is at. */
const turnMs = 3

export interface ConnectionOptions {
  caller: Caller
  programs: readonly Program[]
  buffers: ReplyBuffers
  onDefect: OnDefect
  /** Told whenever there were calls. */
  onCalls: () => void
}

export function serveConnection(socket: Socket, options: ConnectionOptions): void {
  const { caller, buffers, programs, onDefect } = options
  const records = new RecordReader(maxRecordBytes)
  const released: Buffer[] = []
  let heldReplies = 0
  let isFlushing = false
  /** Its time in this turn is used up, and it goes on in the next one. */
  let isResting = false

  socket.on('data', (piece) => {
    records.push(piece)
    work()
  })
  socket.on('drain', work)

  function mayGoOn(): boolean {
    return socket.writableLength < maxPendingBytes && heldReplies < maxHeldReplies
  }

  /** Answers what has been received. */
  function work(): void {
    if (socket.destroyed || isResting) return
    const end = performance.now() + turnMs
    let replies = buffers.take()
    let calls = 0
    try {
      while (mayGoOn()) {
        if (performance.now() >= end) {
          rest()
          break
        }
        const record = records.next()
        if (!record) break
        answer(record, replies)
        calls++
        if (replies.length >= maxPendingBytes) {
          send(replies)
          replies = buffers.take()
        }
      }
    } catch (error) {
      // There is no telling where the next record begins; or it is no RPC at all.
      if (!(error instanceof XdrError || error instanceof RecordTooLarge)) onDefect(error)
      socket.destroy()
    }
    send(replies)
    if (calls > 0) options.onCalls()
    if (mayGoOn() && !isResting) socket.resume()
    else socket.pause()
  }

  function rest(): void {
    isResting = true
    setImmediate(() => {
      isResting = false
      work()
    })
  }

  function answer(record: Buffer, replies: XdrWriter): void {
    const start = replies.length
    const held = writeRecord(replies, () => answerCall(record, caller, programs, onDefect, replies))
    if (!held) return
    const reply = Buffer.from(replies.written(start))
    replies.truncate(start)
    // No closure of this function: it would keep the record until the reply is sent.
    hold(held, reply).catch(giveUp)
  }

  function giveUp(error: unknown): void {
    onDefect(error)
    socket.destroy()
  }

  async function hold(held: Held, reply: Buffer): Promise<void> {
    heldReplies++
    try {
      await held.until
      // Who is gone has not got it, and nothing is to be noted as if so.
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
    // After all others that became ready at the same moment.
    process.nextTick(flush)
  }

  function writeLater(write: (reply: XdrWriter) => void): Buffer {
    const replies = buffers.take()
    writeRecord(replies, () => write(replies))
    const reply = Buffer.from(replies.written())
    buffers.giveBack(replies)
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

  function send(replies: XdrWriter): void {
    const bytes = replies.written()
    if (bytes.length === 0 || socket.destroyed) {
      buffers.giveBack(replies)
    } else if (bytes.length <= maxCopiedBytes) {
      socket.write(Buffer.from(bytes))
      buffers.giveBack(replies)
    } else {
      socket.write(bytes, () => buffers.giveBack(replies))
    }
  }
}

/** Writes a record of one fragment. */
function writeRecord<Result>(writer: XdrWriter, write: () => Result): Result {
  const start = writer.length
  writer.uint32(0)
  const result = write()
  writer.replaceUint32(start, lastFragment + (writer.length - start - markBytes))
  return result
}
