/** Tries whether machines accept connections at the TCP ports that their groups name. */
import { once } from 'node:events'
import { connect } from 'node:net'

import type { PortsToTry } from '../site/life/attempts.ts'

/** A machine that does not answer in this time is tried again later. Milliseconds. */
const patienceMs = 5000

export interface TryPorts {
  /** Does nothing while the machine is tried already. */
  begin: (machine: string, toTry: PortsToTry) => void
  close(): Promise<void>
}

export interface TryPortsSettings {
  /** The IP address of the machine, if it is known. */
  addressOf: (machine: string) => string | undefined
  /** All ports of the machine have accepted a connection. */
  onAnswers: (machine: string, attempt: number) => void
}

export function createTryPorts({ addressOf, onAnswers }: TryPortsSettings): TryPorts {
  const ending = new AbortController()
  const running = new Map<string, Promise<void>>()

  async function tryAll(machine: string, { attempt, ports }: PortsToTry): Promise<void> {
    const address = addressOf(machine)
    if (address === undefined) return
    const patience = AbortSignal.timeout(patienceMs)
    const signal = AbortSignal.any([ending.signal, patience])
    const answers = await Promise.all(ports.map((port) => accepts(address, port, signal)))
    if (answers.every(Boolean)) onAnswers(machine, attempt)
  }

  return {
    begin(machine, toTry) {
      if (running.has(machine) || ending.signal.aborted) return
      const work = tryAll(machine, toTry).finally(() => running.delete(machine))
      running.set(machine, work)
    },
    async close() {
      ending.abort()
      await Promise.all(running.values())
    },
  }
}

async function accepts(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  const socket = connect({ host, port })
  // An error may come also after the wait has ended.
  socket.on('error', () => {})
  try {
    await once(socket, 'connect', { signal })
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
