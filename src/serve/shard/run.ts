/** Starts the shard, and brings it the messages and sockets of the front. */
import type { Socket } from 'node:net'

import { asNetimageError } from '../../errors.ts'
import { keepGivingBackMemory } from '../../give-back-memory.ts'
import { version } from '../../version.ts'
import { toPlain, type FromShard } from './from-shard.ts'
import type { ToShard } from './messages.ts'
import { startShard, type Shard } from './shard.ts'

/**
 * To be called once. The first message starts the shard; no other comes before it is ready. The front ends
 * this process once it has read the last message.
 */
export function runShard(): void {
  let shard: Shard | undefined

  function send(message: FromShard): void {
    // If the front has ended, this process ends as well.
    process.send?.(message, undefined, undefined, () => {})
  }

  async function start({ start }: ToShard & { kind: 'start' }): Promise<void> {
    if (start.version !== version) {
      send({ kind: 'other-version', version })
      return
    }
    try {
      keepGivingBackMemory()
      shard = await startShard(start, send)
      send({ kind: 'ready', boots: shard.boots })
    } catch (error) {
      send({ kind: 'failed', error: toPlain(asNetimageError(error)) })
    }
  }

  async function close(): Promise<void> {
    try {
      await shard?.close()
    } catch (error) {
      send({ kind: 'error', error: toPlain(asNetimageError(error)) })
    }
    send({ kind: 'closed' })
  }

  process.on('message', (message: ToShard, socket?: Socket) => {
    if (message.kind === 'start') void start(message)
    else if (message.kind === 'close') void close()
    else shard?.receive(message, socket)
  })
}
