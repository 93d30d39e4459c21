// A relay between one TFTP client and a server on a single port, which loses one packet.

import { createSocket, type RemoteInfo } from 'node:dgram'
import { once } from 'node:events'

export type LossyRelay = AsyncDisposable & {
  /** The port that clients use instead of the server's port. */
  port: number
  /** The packets that were lost so far. */
  lost: Buffer[]
}

/** @param loses called with each packet of the server, until it returns true for one */
export async function openLossyRelay(
  server: number,
  loses: (packet: Buffer) => boolean,
): Promise<LossyRelay> {
  const [front, back] = [createSocket('udp4'), createSocket('udp4')]
  const lost: Buffer[] = []
  let client: RemoteInfo | undefined
  front.on('message', (packet: Buffer, from: RemoteInfo) => {
    client = from
    back.send(packet, server, '127.0.0.1')
  })
  back.on('message', (packet: Buffer) => {
    if (lost.length === 0 && loses(packet)) lost.push(packet)
    else if (client) front.send(packet, client.port, client.address)
  })
  front.bind(0, '127.0.0.1')
  await once(front, 'listening')
  return {
    port: front.address().port,
    lost,
    async [Symbol.asyncDispose]() {
      await Promise.all([front, back].map((socket) => socket[Symbol.asyncDispose]()))
    },
  }
}
