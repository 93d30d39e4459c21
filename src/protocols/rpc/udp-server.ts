/** RPC over UDP: one datagram for a call, one for its reply. */
import { isIPv6 } from 'node:net'
import { plainAddress } from '../connections.ts'
import { createDatagramSocket } from '../datagram-socket.ts'
import { listenError } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { answerCall, type OnDefect, type Program } from './program.ts'
import type { RpcServer } from './tcp-server.ts'
import { XdrError, XdrWriter } from './xdr.ts'

export interface UdpServerOptions {
  /** The service, for error messages. */
  name: string
  address: string
  /** 0: any free port. */
  port: number
  programs: readonly Program[]
  onDefect: OnDefect
  /** Default: calls of all clients are answered. */
  hears?: Hears | undefined
}

/**
 * The most bytes of a reply. No client needs more, and an attacker who forges a sender's address
 * could use long replies to flood that address.
 */
const maxReplyBytes = 1024

/** @throws `NetimageError` `cannot-listen` */
export async function startUdpServer(options: UdpServerOptions): Promise<RpcServer> {
  const { address, port, programs, onDefect, hears } = options
  const socket = createDatagramSocket({ type: isIPv6(address) ? 'udp6' : 'udp4' })
  const reply = new XdrWriter(maxReplyBytes)

  socket.on('message', (message, sender) => {
    const caller = { address: plainAddress(sender.address) ?? '', transport: 'udp' } as const
    if (hears?.(caller.address) === false) return
    reply.truncate(0)
    try {
      if (answerCall(message, caller, programs, onDefect, reply)) return
      if (reply.length > maxReplyBytes) return
      // Ignore errors: the sender may be gone, or its address may be forged.
      socket.send(Buffer.from(reply.written()), sender.port, sender.address, () => {})
    } catch (error) {
      if (!(error instanceof XdrError)) onDefect(error)
    }
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
    close: () => new Promise((resolve) => void socket.close(resolve)),
  }
}
