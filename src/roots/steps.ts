/**
 * Long work in pieces. After each short step of it, others can be answered.
 *
 * All long work of this process shares the turns of the event loop: in each turn, one piece of one work is
 * done. So the other machines wait for one piece, however many machines cause such work at a time.
 */
import { setImmediate as turn } from 'node:timers/promises'

export type Steps<T = void> = Generator<void, T>

/** Does all steps now. */
export function doNow<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** The result of steps that are done. */
export interface Done<T> {
  value: T
}

/** @returns undefined if there are more steps */
export function doSome<T>(
  steps: Steps<T>,
  mayGoOn: (step: number) => boolean,
): Done<T> | undefined {
  for (let count = 0; mayGoOn(count); count++) {
    const step = steps.next()
    if (step.done) return { value: step.value }
  }
  return undefined
}

let last = Promise.resolve()

/** Resolves in a turn of the event loop in which no other piece of long work is done. */
export function nextPiece(): Promise<void> {
  last = last.then(() => turn())
  return last
}

/** How long a piece may take, if its steps are short. Milliseconds. */
const pieceMs = 4

/** Does steps for some milliseconds. @returns as `doSome` */
export function doPiece<T>(steps: Steps<T>): Done<T> | undefined {
  const end = performance.now() + pieceMs
  return doSome(steps, (step) => step === 0 || performance.now() < end)
}
