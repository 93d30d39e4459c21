// `netimage serve` with a clock that its parent sets. It kills itself at any step of its work: also before
// it sends anything to a machine.

import { countSteps, killAfter } from '../../support/killed-by-steps.ts'
import { Socket } from 'node:net'
import { mock } from 'node:test'
import type { ServePorts } from '../../../src/serve/request.ts'

export interface Steering {
  /** Milliseconds since 1970. */
  at: number
  /** The server is to be killed after so many more steps. */
  killAfter?: number
  /** When the server starts. */
  open?: { state: string; ports: ServePorts }
}

mock.timers.enable({ apis: ['Date'] })
const realTimers = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout }

/** The server does this every few seconds. Here it does it whenever its clock is set. */
const regular: (() => void)[] = []
mock.method(globalThis, 'setInterval', (action: () => void) => {
  regular.push(action)
  return realTimers.setTimeout(() => {}, 0)
})

/** What is to happen after a second or more, by the clock that is set. */
const due = new Map<NodeJS.Timeout, { at: number; action: () => void }>()
const never = 2 ** 30
mock.method(globalThis, 'setTimeout', (action: () => void, delay = 0) => {
  if (delay < 1000) return realTimers.setTimeout(action, delay)
  const timer = realTimers.setTimeout(() => {}, never)
  due.set(timer, { at: Date.now() + delay, action })
  return timer
})
mock.method(globalThis, 'clearTimeout', (timer: NodeJS.Timeout) => {
  due.delete(timer)
  realTimers.clearTimeout(timer)
})

countSteps(Socket.prototype, 'write')
const { serve } = await import('../../../src/serve/serve.ts')

async function work({ at, open, ...asked }: Steering): Promise<void> {
  mock.timers.setTime(at)
  if (asked.killAfter !== undefined) killAfter(asked.killAfter)
  if (open) {
    await serve({
      ...{ images: [], dhcp: 'off', address: '127.0.0.1', allowed: 'any', ...open },
      ...{ see: () => {}, onTold: () => {} },
      onError: (error) => console.error(error.message),
    })
  }
  for (const [timer, { at: then, action }] of due) {
    if (then > at) continue
    clearTimeout(timer)
    action()
  }
  for (const action of regular) action()
  process.send?.('done')
}

process.on('message', (asked: Steering) => void work(asked))
process.send?.('loaded')
