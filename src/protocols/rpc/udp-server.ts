/** RPC over UDP: one datagram for a call, one for its reply. */
import { isIPv6 } from 'node:net'
import { plainAddress } from '../connections.ts'
import { createDatagramSocket, type RemoteInfo } from '../datagram-socket.ts'
import { listenError, type Listener } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { answerCall, type OnDefect, type Program } from './program.ts'
import { XdrError, XdrWriter } from './xdr.ts'

export interface UdpListenerOptions {
  /** The service, for error messages. */
  name: string
  address: string
  /** 0: any free port. */
  port: number
  onDefect: OnDefect
  /** Default: calls of all clients are answered. */
  hears?: Hears | undefined
}

/**
 * Answers the call in a datagram.
 *
 * @param address the client's
 * @returns undefined if there is no reply
 */
export type AnswerDatagram = (
  message: Buffer,
  address: string,
) => Promise<Buffer | undefined> | Buffer | undefined

/**
 * The most bytes of a reply. No client needs more, and an attacker who forges a sender's address
 * could use long replies to flood that address.
 */
const maxReplyBytes = 1024

export function createAnswerDatagram({
  programs,
  onDefect,
}: {
  programs: readonly Program[]
  onDefect: OnDefect
}): AnswerDatagram {
  const reply = new XdrWriter(maxReplyBytes)
  return (message, address) => {
    const caller = { address, transport: 'udp' } as const
    reply.truncate(0)
    try {
      if (answerCall(message, caller, programs, onDefect, reply)) return undefined
      return reply.length > maxReplyBytes ? undefined : Buffer.from(reply.written())
    } catch (error) {
      if (!(error instanceof XdrError)) onDefect(error)
      return undefined
    }
  }
}

/** @throws `NetimageError` `cannot-listen` */
export async function listenUdp(
  options: UdpListenerOptions,
  answer: AnswerDatagram,
): Promise<Listener> {
  const { address, port, onDefect, hears } = options
  const socket = createDatagramSocket({ type: isIPv6(address) ? 'udp6' : 'udp4' })
  let isClosed = false
  socket.on('message', (message, sender) => {
    const client = plainAddress(sender.address) ?? ''
    if (hears?.(client) !== false) void reply(message, client, sender).catch(onDefect)
  })
  async function reply(message: Buffer, client: string, { address, port }: RemoteInfo) {
    const bytes = await answer(message, client)
    // Ignore errors: the sender may be gone, or its address may be forged.
    if (bytes && !isClosed) socket.send(bytes, port, address, () => {})
  }

  const listening = Promise.withResolvers<void>()
  socket.once('error', (error) =>
    listening.reject(listenError(`${options.name} (UDP)`, options, error)),
  )
  socket.bind({ address, port, exclusive: true }, listening.resolve)
  await listening.promise
  socket.on('error', onDefect)

  return {
    port: socket.address().port,
    close() {
      isClosed = true
      return new Promise((resolve) => void socket.close(resolve))
    },
  }
}
