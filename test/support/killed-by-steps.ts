// A program that imports this first can kill itself at any step of its work: before a statement that
// begins or ends a transaction, before a sync, and before an answer to its parent.

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { DatabaseSync } from 'node:sqlite'

let left = Infinity
let kill = killSelf

/** The program kills itself (SIGKILL), or what it is told to kill, before so many more steps. */
export function killAfter(steps: number, killed = killSelf): void {
  left = steps
  kill = killed
}

function killSelf(): void {
  process.kill(process.pid, 'SIGKILL')
}

/** Each call of the method is a step. */
export function countSteps(object: object, name: string): void {
  const original: unknown = Reflect.get(object, name)
  if (typeof original !== 'function') throw new Error(`there is no ${name}`)
  Reflect.set(object, name, function (this: unknown, ...given: unknown[]): unknown {
    if (--left < 0) kill()
    return Reflect.apply(original, this, given)
  })
}

countSteps(DatabaseSync.prototype, 'exec')
countSteps(fs, 'fdatasync')
syncBuiltinESMExports()
if (process.send) countSteps(process, 'send')
