// A shard that does what an event tells it to do, and that spins at its start if its state is `spins`. If its
// state is `deaf`, it ends when an event comes, as if it had not read the event. It greets NFS clients, and ends if an HTTP client or a call of MOUNT comes.

import type { Socket } from 'node:net'

import type { ServeEvent } from '../../../src/protocols/event.ts'
import type { FromShard } from '../../../src/serve/shard/from-shard.ts'
import type { ToShard } from '../../../src/serve/shard/messages.ts'

process.once('disconnect', () => process.exit())
const send = (message: FromShard) => process.send?.(message)

let isDeaf = false

function obey(event: ServeEvent): void {
  if (isDeaf) process.exit(7)
  send({ kind: 'heard' })
  const order = 'reason' in event ? event.reason : undefined
  if (order === 'end') process.exit(7)
  else if (order === 'spin') for (;;);
  // Also what no shard says.
  else process.send?.(JSON.parse(order ?? 'null'))
}

process.on('message', (message: ToShard, socket?: Socket) => {
  if (message.kind === 'start') {
    if (message.start.state === 'spins') for (;;);
    isDeaf = message.start.state === 'deaf'
    send({ kind: 'ready', boots: [] })
  } else if (message.kind === 'ping') send({ kind: 'pong', id: message.id })
  else if (message.kind === 'question') {
    if (message.question.about === 'call') process.exit(7)
    send({ kind: 'answer', id: message.id, answer: message.question.about === 'images' ? [] : 5 })
  } else if (message.kind === 'event') obey(message.event)
  else if (message.kind === 'connection') {
    if (message.protocol === 'http') process.exit(7)
    send({ kind: 'taken' })
    socket?.end(`from ${process.pid}`)
  } else if (message.kind === 'close') process.exit()
})
