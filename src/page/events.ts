/** Tells browsers what has changed, as it happens. [HTML, section 9.2: server-sent events] */
import type { ServerResponse } from 'node:http'

import type { NetimageError } from '../errors.ts'
import { printableJson } from '../printable.ts'
import { version } from '../version.ts'
import type { Changes } from './view.ts'

export interface EventClients {
  readonly size: number
  /** Whether there are so many clients that no more may be added. */
  readonly isFull: boolean
  add(response: ServerResponse): void
  tell(changes: Changes): void
  /** What is shown cannot be read now. */
  tellProblem(error: NetimageError): void
  close(): void
}

export interface EventSettings {
  /** Called when the first client has come, and when the last one has gone. */
  onWatched: (isWatched: boolean) => void
  most?: number
  aliveMs?: number
}

const mostClients = 32
/** A client that reads nothing is noticed after some of these. Milliseconds. */
const defaultAliveMs = 15_000
/** If more machines have changed, it is cheaper to read all of them. */
const mostNamed = 200
/** A browser connects again after this time. Milliseconds. */
const againMs = 3000

/** What a client has not been told. It is one message, however long the client reads nothing. */
interface Pending {
  machines: Set<string>
  groups: Set<string>
  others: boolean
  log: number | undefined
  problem: NetimageError | undefined
}

export function createEventClients(settings: EventSettings): EventClients {
  const { onWatched, most = mostClients, aliveMs = defaultAliveMs } = settings
  const clients = new Map<ServerResponse, Pending | undefined>()

  function tellAll(add: (pending: Pending) => void): void {
    for (const [response, before] of clients) {
      const pending = before ?? nothingPending()
      add(pending)
      clients.set(response, pending)
      flush(response)
    }
  }

  function flush(response: ServerResponse): void {
    const pending = clients.get(response)
    if (!pending || response.writableNeedDrain) return
    clients.set(response, undefined)
    response.write(messagesOf(pending))
  }

  const timer = setInterval(() => {
    for (const response of clients.keys()) {
      // The socket of a client that reads nothing is closed after a while without any data.
      if (!response.writableNeedDrain) response.write(': still here\n\n')
    }
  }, aliveMs)
  timer.unref()

  return {
    get size() {
      return clients.size
    },
    get isFull() {
      return clients.size >= most
    },
    add(response) {
      response.writeHead(200, {
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-store',
        'X-Accel-Buffering': 'no',
      })
      response.write(`retry: ${againMs}\n\n${message('hello', { version })}`)
      clients.set(response, undefined)
      response.on('drain', () => flush(response))
      response.once('close', () => {
        clients.delete(response)
        if (clients.size === 0) onWatched(false)
      })
      if (clients.size === 1) onWatched(true)
    },
    tell: ({ machines, groups, others, log }) =>
      tellAll((pending) => {
        for (const machine of machines) pending.machines.add(machine)
        for (const group of groups) pending.groups.add(group)
        pending.others ||= others
        pending.log = log ?? pending.log
      }),
    tellProblem: (error) => tellAll((pending) => void (pending.problem = error)),
    close() {
      clearInterval(timer)
      for (const response of clients.keys()) response.destroy()
    },
  }
}

function nothingPending(): Pending {
  return {
    ...{ machines: new Set(), groups: new Set(), others: false },
    ...{ log: undefined, problem: undefined },
  }
}

function messagesOf({ machines, groups, others, log, problem }: Pending): string {
  const isChanged = machines.size > 0 || groups.size > 0 || others || log !== undefined
  const changed = {
    machines: machines.size > mostNamed ? 'all' : [...machines],
    ...{ groups: [...groups], others, ...(log !== undefined && { log }) },
  }
  return [
    ...(isChanged ? [message('changed', changed)] : []),
    ...(problem ? [message('problem', { code: problem.code, message: problem.message })] : []),
  ].join('')
}

/** JSON has no line breaks of its own. */
function message(event: string, data: object): string {
  return `event: ${event}\ndata: ${printableJson(data)}\n\n`
}
