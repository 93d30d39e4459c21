// A TFTP peer that sends single packets, as no real client does.

import assert from 'node:assert/strict'
import { createSocket, type RemoteInfo } from 'node:dgram'
import { once } from 'node:events'
import { decode, encode, type Packet } from '../../../src/protocols/tftp/packet.ts'

export type Received = { packet: Packet; port: number }

export type TftpPeer = AsyncDisposable & {
  port: number
  send: (packet: Packet | Buffer, port: number) => void
  /** The next packet; undefined if none comes within the time. */
  next: (milliseconds?: number) => Promise<Received | undefined>
  /** Fails if a packet has come that `next` did not return. */
  assertNothing: () => Promise<void>
}

export async function openPeer(address = '127.0.0.1'): Promise<TftpPeer> {
  const socket = createSocket('udp4')
  socket.bind(0, address)
  await once(socket, 'listening')
  const waiting: Received[] = []
  let wake: (() => void) | undefined
  socket.on('message', (bytes: Buffer, from: RemoteInfo) => {
    waiting.push({
      packet: decode(bytes) ?? assert.fail('the packet is not TFTP'),
      port: from.port,
    })
    wake?.()
  })
  const peer: TftpPeer = {
    port: socket.address().port,
    send(packet, port) {
      socket.send(Buffer.isBuffer(packet) ? packet : encode(packet), port, '127.0.0.1')
    },
    async assertNothing() {
      // This packet arrives after all packets that were sent before.
      const { port } = socket.address()
      socket.send(encode(ack(0)), port, '127.0.0.1')
      assert.deepEqual(await peer.next(), { packet: ack(0), port })
    },
    async next(milliseconds = 900_000) {
      if (waiting.length === 0) {
        const woken = Promise.withResolvers<void>()
        const timer = setTimeout(woken.resolve, milliseconds)
        wake = woken.resolve
        await woken.promise
        clearTimeout(timer)
      }
      return waiting.shift()
    },
    async [Symbol.asyncDispose]() {
      const closed = once(socket, 'close')
      socket.close()
      await closed
    },
  }
  return peer
}

export function readRequest(file: string, options: Record<string, number> = {}): Packet {
  return {
    kind: 'read',
    request: {
      ...{ file, mode: 'octet' },
      options: Object.entries(options).map(([name, value]) => ({ name, value: String(value) })),
    },
  }
}

export function ack(block: number): Packet {
  return { kind: 'ack', block }
}
