/** The TFTP server: one service on one port. */
import type { Listener } from '../listen.ts'
import { createTftpService, type TftpServiceOptions } from './service.ts'
import { listenTftp, type TftpSocketOptions } from './socket.ts'

export interface TftpServerOptions extends TftpServiceOptions, TftpSocketOptions {
  signal?: AbortSignal
}

/**
 * @returns a listener whose `close` also ends all transfers
 * @throws `NetimageError` `cannot-listen`
 */
export async function startTftpServer(options: TftpServerOptions): Promise<Listener> {
  const { signal } = options
  signal?.throwIfAborted()
  const socket = await listenTftp(options, (packet, from) => service.receive(packet, from))
  const service = createTftpService(options, socket.send)
  const close = () => {
    service.close()
    return socket.close()
  }
  signal?.addEventListener('abort', () => void close(), { once: true })
  return { port: socket.port, close }
}
