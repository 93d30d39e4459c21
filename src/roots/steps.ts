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

/** How much is done in one go: so many steps at least, and then more for so many milliseconds. Default: 0. */
export interface Amount {
  steps: number
  ms?: number
}

/** @returns undefined if there are more steps */
export function doSome<T>(steps: Steps<T>, { steps: least, ms = 0 }: Amount): Done<T> | undefined {
  const end = performance.now() + ms
  for (let count = 0; count < least || performance.now() < end; count++) {
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

/** A step can take longer. */
const piece: Amount = { steps: 1, ms: 4 }

/** Does all steps in pieces. @throws the reason of the signal, and errors of the steps */
export async function doInPieces<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    await nextPiece()
    signal?.throwIfAborted()
    const done = doSome(steps, piece)
    if (done) return done.value
  }
}
