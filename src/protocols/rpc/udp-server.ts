/** RPC over UDP: a datagram, a reply. */
import { isIPv6 } from 'node:net'
import { plainAddress } from '../connections.ts'
import { createDatagramSocket } from '../datagram-socket.ts'
import { listenError } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import { answerCall, type OnDefect, type Program } from './program.ts'
import type { RpcServer } from './tcp-server.ts'
import { XdrError, XdrWriter } from './xdr.ts'

export interface UdpServerOptions {
  /** For errors: what is served. */
  name: string
  address: string
  /** 0: any that is free. */
  port: number
  programs: readonly Program[]
  onDefect: OnDefect
  /** Default: everybody. */
  hears?: Hears | undefined
}

/**
 * What a reply may have. More would help nobody but those who send with another's address, to have
 * us flood it.
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
      // The sender may be gone, or somebody else may have sent it with that address.
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
