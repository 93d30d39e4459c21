// A TFTP server of a folder, on any free port of the loopback interface.

import type { ServeEvent } from '../../../src/protocols/event.ts'
import { startTftpServer, type TftpServerOptions } from '../../../src/protocols/tftp/server.ts'

export type TestTftpServer = AsyncDisposable & {
  port: number
  events: ServeEvent[]
  errors: string[]
  close: () => Promise<void>
}

export async function serveTftp(
  image: string,
  options: Partial<TftpServerOptions> = {},
): Promise<TestTftpServer> {
  const events: ServeEvent[] = []
  const errors: string[] = []
  const { port, close } = await startTftpServer({
    ...{ address: '127.0.0.1', port: 0 },
    treesOf: () => ({ image }),
    report: (event) => events.push(event),
    onError: (error) => errors.push(error.message),
    ...options,
  })
  return { port, events, errors, close, [Symbol.asyncDispose]: close }
}
