// A shard that hangs or ends when it is told of an event, and hangs at its start if its state is `spins`.

import type { FromShard, ToShard } from '../../../src/serve/shard/messages.ts'

process.once('disconnect', () => process.exit())
const send = (message: FromShard) => process.send?.(message)

process.on('message', (message: ToShard) => {
  if (message.kind === 'start') {
    if (message.start.state === 'spins') for (;;);
    send({ kind: 'ready', boots: [] })
  } else if (message.kind === 'ping') send({ kind: 'pong', id: message.id })
  else if (message.kind === 'images') send({ kind: 'own-images', id: message.id, answer: [] })
  else if (message.kind === 'tell') process.exit(7)
  else if (message.kind === 'learn') for (;;);
  else if (message.kind === 'close') process.exit()
})
