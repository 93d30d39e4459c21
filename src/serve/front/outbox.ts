/**
 * Keeps events and read requests until a process has them. If the process ends before, they go to the next
 * one. An event is kept until the process has said that it has the event: what the system has taken for a
 * process is lost if the process ends before it reads this. Read requests are only kept until the system has
 * taken them, because a machine repeats them.
 */
import type { ToShard } from '../shard/messages.ts'
import { createQuota } from '../../protocols/quota.ts'
import type { OneProcess } from './one-process.ts'

export interface Outbox {
  /**
   * @param machine whose message it is
   * @returns false if too many of its kind wait, of the machine or in all: the message is dropped
   */
  send(machine: string, message: ToShard): boolean
  /** To be called if the process has said that it has the next event. */
  heard(): void
  /** To be called if a process can take messages. */
  begin(process: Pick<OneProcess, 'send'>): void
  /** To be called if the process has ended. */
  ended(): void
  /** Drops all messages, also those that come later. */
  close(): void
}

/** Some hundred machines that boot at the same time have a few events each while a process starts again. */
const limits = { most: 4096, mostOfKey: 64 }
/** Read requests have places of their own: a machine repeats them, but nobody repeats an event. */
const limitsOfRequests = { most: 512, mostOfKey: 32 }

interface Waiting {
  machine: string
  message: ToShard
}

export function createOutbox(): Outbox {
  let waiting: Waiting[] = []
  /** Messages that the process may not have, in the order in which they were sent. */
  const sent = new Set<Waiting>()
  const quota = createQuota(limits)
  const quotaOfRequests = createQuota(limitsOfRequests)
  const quotaFor = ({ kind }: ToShard) => (kind === 'read-request' ? quotaOfRequests : quota)
  let reader: Pick<OneProcess, 'send'> | undefined
  let isClosed = false

  function post(process: Pick<OneProcess, 'send'>, next: Waiting): void {
    sent.add(next)
    process.send(next.message, (error) => {
      if (!error && next.message.kind !== 'event') has(next)
    })
  }

  /** The process has the message, or will have it. */
  function has(next: Waiting): void {
    if (sent.delete(next)) quotaFor(next.message).free(next.machine)
  }

  return {
    send(machine, message) {
      if (isClosed || !quotaFor(message).take(machine)) return false
      const next = { machine, message }
      if (reader) post(reader, next)
      else waiting.push(next)
      return true
    },
    heard() {
      for (const next of sent) if (next.message.kind === 'event') return has(next)
    },
    begin(process) {
      reader = process
      for (const next of waiting.splice(0)) post(process, next)
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
