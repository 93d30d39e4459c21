/**
 * Keeps messages until a process can take them. If the process ends, those that it may not have read go to
 * the next one.
 */
import type { ChildProcess } from 'node:child_process'

import type { ToShard } from '../shard/messages.ts'

export interface Outbox {
  /** @returns false if too many wait: the message is dropped */
  send(message: ToShard): boolean
  /** To be called if a process can take messages. */
  begin(process: ChildProcess): void
  /** To be called if the process has ended. */
  ended(): void
  /** Drops all messages, also those that come later. */
  close(): void
}

const maxWaiting = 1024

export function createOutbox(): Outbox {
  let waiting: ToShard[] = []
  /** Messages that were sent, and that the system has not taken yet. */
  const sent = new Set<ToShard>()
  let reader: ChildProcess | undefined
  let isClosed = false

  function post(process: ChildProcess, message: ToShard): void {
    sent.add(message)
    process.send(message, (error) => {
      if (!error) sent.delete(message)
    })
  }

  return {
    send(message) {
      if (isClosed || waiting.length + sent.size >= maxWaiting) return false
      if (reader) post(reader, message)
      else waiting.push(message)
      return true
    },
    begin(process) {
      reader = process
      for (const message of waiting.splice(0)) post(process, message)
    },
    ended() {
      reader = undefined
      waiting = [...sent, ...waiting]
      sent.clear()
    },
    close() {
      isClosed = true
      waiting = []
      sent.clear()
    },
  }
}
