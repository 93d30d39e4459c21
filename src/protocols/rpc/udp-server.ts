/** RPC over UDP: one datagram for a call, one for its reply. */
import { isIPv6 } from 'node:net'
import { plainAddress } from '../connections.ts'
import { createDatagramSocket } from '../datagram-socket.ts'
import { listenError } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { answerCall, type OnDefect, type Program } from './program.ts'
import type { RpcServer } from './tcp-server.ts'
import { XdrError, XdrWriter } from './xdr.ts'

export interface UdpServerOptions extends UdpListenerOptions {
  programs: readonly Program[]
}

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
export type AnswerDatagram = (message: Buffer, address: string) => Buffer | undefined

/**
 * The most bytes of a reply. No client needs more, and an attacker who forges a sender's address
 * could use long replies to flood that address.
 */
const maxReplyBytes = 1024

/** @throws `NetimageError` `cannot-listen` */
export async function startUdpServer(options: UdpServerOptions): Promise<RpcServer> {
  const answer = createAnswerDatagram(options)
  return await listenUdp(options, (message, address, reply) => {
    const bytes = answer(message, address)
    if (bytes) reply(bytes)
  })
}

export function createAnswerDatagram({
  programs,
  onDefect,
}: Pick<UdpServerOptions, 'programs' | 'onDefect'>): AnswerDatagram {
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

/**
 * @param receive called with each datagram, with the address of its sender
 * @throws `NetimageError` `cannot-listen`
 */
export async function listenUdp(
  options: UdpListenerOptions,
  receive: (message: Buffer, address: string, reply: (bytes: Buffer) => void) => void,
): Promise<RpcServer> {
  const { address, port, onDefect, hears } = options
  const socket = createDatagramSocket({ type: isIPv6(address) ? 'udp6' : 'udp4' })
  let isClosed = false
  socket.on('message', (message, sender) => {
    const client = plainAddress(sender.address) ?? ''
    if (hears?.(client) === false) return
    receive(message, client, (bytes) => {
      // Ignore errors: the sender may be gone, or its address may be forged.
      if (!isClosed) socket.send(bytes, sender.port, sender.address, () => {})
    })
  })

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
