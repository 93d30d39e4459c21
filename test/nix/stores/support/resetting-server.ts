// A server in another thread, so that it can reset connections while the client is blocked.

import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { parentPort } from 'node:worker_threads'

const isReset = new Int32Array(new SharedArrayBuffer(4))
const sockets = new Set<Socket>()
const server = createServer((request, response) => response.end((request.url ?? '').slice(1)))
server.on('connection', (socket) => {
  sockets.add(socket)
  socket.on('close', () => {
    sockets.delete(socket)
    if (sockets.size > 0) return
    Atomics.add(isReset, 0, 1)
    Atomics.notify(isReset, 0)
  })
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The server has no port.')
  parentPort?.postMessage([address.port, isReset.buffer])
})
parentPort?.on('message', () => {
  for (const socket of sockets) socket.resetAndDestroy()
})
