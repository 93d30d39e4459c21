// A shard that hangs or ends when it is told of an event, and hangs at its start if its state is `spins`.
// It greets NFS clients, and ends if an HTTP client comes.

import type { Socket } from 'node:net'

import type { FromShard, ToShard } from '../../../src/serve/shard/messages.ts'

process.once('disconnect', () => process.exit())
const send = (message: FromShard) => process.send?.(message)

process.on('message', (message: ToShard, socket?: Socket) => {
  if (message.kind === 'start') {
    if (message.start.state === 'spins') for (;;);
    send({ kind: 'ready', boots: [] })
  } else if (message.kind === 'ping') send({ kind: 'pong', id: message.id })
  else if (message.kind === 'images') send({ kind: 'own-images', id: message.id, answer: [] })
  else if (message.kind === 'tell') process.exit(7)
  else if (message.kind === 'learn') for (;;);
  else if (message.kind === 'connection') {
    if (message.protocol === 'http') process.exit(7)
    send({ kind: 'taken' })
    socket?.end(`from ${process.pid}`)
  } else if (message.kind === 'close') process.exit()
})
