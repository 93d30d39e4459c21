/** Finds a port of 127.0.0.1 that no program uses, neither for TCP nor for UDP. */
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { errnoOf } from '../../../src/errors.ts'

/**
 * Below the ports that Linux gives to clients (`ip_local_port_range`): no other program is given the
 * port before the caller listens there.
 */
const ports = { from: 20_000, to: 32_768 }

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(ports.from, ports.to)
    const [server, socket] = [createServer(), createSocket('udp4')]
    try {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      socket.bind(port, '127.0.0.1')
      await once(socket, 'listening')
      return port
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') throw error
    } finally {
      server.close()
      socket.close()
    }
  }
}
