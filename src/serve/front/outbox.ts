/**
 * Keeps events and read requests until a process can take them. If the process ends, those that it may not
 * have read go to the next one.
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
  /** To be called if a process can take messages. */
  begin(process: Pick<OneProcess, 'send'>): void
  /** To be called if the process has ended. */
  ended(): void
  /** Drops all messages, also those that come later. */
  close(): void
}

const limits = { most: 1024, mostOfKey: 64 }
/** Read requests have places of their own: a machine repeats them, but nobody repeats an event. */
const limitsOfRequests = { most: 512, mostOfKey: 32 }

interface Waiting {
  machine: string
  message: ToShard
}

export function createOutbox(): Outbox {
  let waiting: Waiting[] = []
  /** Messages that were sent, and that the system has not taken yet. */
  const sent = new Set<Waiting>()
  const quota = createQuota(limits)
  const quotaOfRequests = createQuota(limitsOfRequests)
  const quotaFor = ({ kind }: ToShard) => (kind === 'read-request' ? quotaOfRequests : quota)
  let reader: Pick<OneProcess, 'send'> | undefined
  let isClosed = false

  function post(process: Pick<OneProcess, 'send'>, next: Waiting): void {
    sent.add(next)
    process.send(next.message, (error) => {
      if (!error && sent.delete(next)) quotaFor(next.message).free(next.machine)
    })
  }

  return {
    send(machine, message) {
      if (isClosed || !quotaFor(message).take(machine)) return false
      const next = { machine, message }
      if (reader) post(reader, next)
      else waiting.push(next)
      return true
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
