// All processes of a server load this before its code. It gives each a clock that the test sets, and lets
// each kill the whole server at any step of its work: also before it sends anything to a machine.

import { Socket } from 'node:net'
import { mock } from 'node:test'
import { countSteps, killAfter } from '../../support/killed-by-steps.ts'

export interface Steps {
  /** Milliseconds since 1970. */
  at: number
  /** The server is to be killed after so many more steps of any of its processes. */
  killAfter?: number
}

/** The front gives a process that it starts its first steps in this variable. */
export const stepsVariable = 'NETIMAGE_TEST_STEPS'
/** The front tells a process by a message with this kind, and gets it back. */
export const steers = 'steers'

mock.timers.enable({ apis: ['Date'] })
const realTimers = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout }
const never = 2 ** 30

/** The server does this every few seconds. Here it does it whenever its clock is set. */
const regular = new Map<NodeJS.Timeout, () => void>()
mock.method(globalThis, 'setInterval', (action: () => void) => {
  const timer = realTimers.setTimeout(() => {}, never)
  regular.set(timer, action)
  return timer
})
mock.method(globalThis, 'clearInterval', (timer: NodeJS.Timeout) => {
  regular.delete(timer)
  realTimers.clearTimeout(timer)
})

/** What is to happen after a second or more, by the clock that is set. */
const due = new Map<NodeJS.Timeout, { at: number; action: () => void }>()
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

export function begin({ at, killAfter: steps }: Steps): void {
  mock.timers.setTime(at)
  if (steps !== undefined) killAfter(steps, killServer)
}

/** Does what is due by now. */
export function work(): void {
  const at = Date.now()
  for (const [timer, { at: then, action }] of due) {
    if (then > at) continue
    clearTimeout(timer)
    action()
  }
  for (const action of regular.values()) action()
}

const given = process.env[stepsVariable]

function killServer(): void {
  if (given !== undefined) process.kill(process.ppid, 'SIGKILL')
  process.kill(process.pid, 'SIGKILL')
}

/** The process, or the channel to another one, handles all other messages itself. */
export function takeMessages(from: NodeJS.EventEmitter, take: (message: Steps) => void): void {
  const emit = from.emit.bind(from)
  from.emit = (name: string | symbol, ...values: unknown[]) => {
    const [message] = values
    if (name !== 'message' || !isSteering(message)) return emit(name, ...values)
    take(message.steps)
    return true
  }
}

function isSteering(message: unknown): message is { kind: string; steps: Steps } {
  return (
    typeof message === 'object' && message !== null && 'kind' in message && message.kind === steers
  )
}

if (given !== undefined) {
  begin(JSON.parse(given))
  takeMessages(process, (steps) => {
    begin(steps)
    work()
    process.send?.({ kind: steers, steps })
  })
}
