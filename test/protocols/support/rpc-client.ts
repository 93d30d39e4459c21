// A client of ONC RPC over TCP that can send anything, even data that no real client sends.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { RecordReader } from '../../../src/protocols/rpc/record.ts'
import { XdrReader, XdrWriter } from '../../../src/protocols/rpc/xdr.ts'

export type Caller = {
  uid?: number
  gid?: number
  groups?: readonly number[]
  /** Default: a new number. */
  xid?: number
}

export type RpcClient = {
  socket: Socket
  /** Sends a call, and waits for its results (the bytes after the header of a successful reply). */
  call: (
    program: number,
    procedure: number,
    writeArguments: (writer: XdrWriter) => void,
    caller?: Caller,
  ) => Promise<XdrReader>
  /** The next reply of any kind, with its header. */
  nextReply: () => Promise<Buffer>
  [Symbol.dispose]: () => void
}

let lastXid = 0

/**
 * The client uses version 3 of all programs.
 *
 * @param localAddress the address of the client
 */
export async function connectRpc(
  port: number,
  localAddress = '127.0.0.1',
  host = '127.0.0.1',
): Promise<RpcClient> {
  const socket = connect({ port, host, localAddress, noDelay: true })
  await once(socket, 'connect')
  const records = new RecordReader(2 ** 22)
  const replies: Buffer[] = []
  const waiting: PromiseWithResolvers<Buffer>[] = []
  const byXid = new Map<number, PromiseWithResolvers<XdrReader>>()
  let end: Error | undefined

  socket.on('data', (piece) => {
    records.push(piece)
    for (let record = records.next(); record; record = records.next()) take(Buffer.from(record))
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    end = new Error('the connection was closed')
    for (const { reject } of [...waiting, ...byXid.values()]) reject(end)
  })

  function take(reply: Buffer): void {
    const xid = reply.readUInt32BE()
    const call = byXid.get(xid)
    if (!call) {
      const waiter = waiting.shift()
      if (waiter) waiter.resolve(reply)
      else replies.push(reply)
      return
    }
    byXid.delete(xid)
    const status = reply.readUInt32BE(20)
    if (reply.readUInt32BE(8) === 0 && status === 0) call.resolve(new XdrReader(reply.subarray(24)))
    else call.reject(new Error(`the call failed: ${reply.toString('hex', 4)}`))
  }

  return {
    socket,
    call(program, procedure, writeArguments, caller = {}) {
      if (end) return Promise.reject(end)
      const { xid = ++lastXid } = caller
      const reply = Promise.withResolvers<XdrReader>()
      byXid.set(xid, reply)
      socket.write(callRecord({ ...caller, xid }, program, procedure, writeArguments))
      return reply.promise
    },
    nextReply() {
      const reply = replies.shift()
      if (reply) return Promise.resolve(reply)
      if (end) return Promise.reject(end)
      const waiter = Promise.withResolvers<Buffer>()
      waiting.push(waiter)
      return waiter.promise
    },
    [Symbol.dispose]: () => socket.destroy(),
  }
}

export function callRecord(
  { xid = ++lastXid, uid = 0, gid = 0, groups = [] }: Caller,
  program: number,
  procedure: number,
  writeArguments: (writer: XdrWriter) => void = () => {},
): Buffer {
  const message = new XdrWriter(256)
  for (const word of [xid, 0, 2, program, 3, procedure]) message.uint32(word)
  message.uint32(1)
  message.uint32(4 * (5 + groups.length))
  for (const word of [0, 0, uid, gid, groups.length, ...groups, 0, 0]) message.uint32(word)
  writeArguments(message)
  const mark = Buffer.alloc(4)
  mark.writeUInt32BE(0x8000_0000 + message.length)
  return Buffer.concat([mark, message.written()])
}
