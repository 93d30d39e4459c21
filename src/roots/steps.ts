/**
 * Long work in pieces. After each short step of it, others can be answered.
 *
 * All long work of this process shares the turns of the event loop: in each turn, one piece of one work is
 * done. So the other machines wait for one piece, however many machines cause such work at a time.
 */
import { setImmediate as turn } from 'node:timers/promises'

/** What the next step needs, and what takes time without work of this thread: mostly the disk. */
export interface Wait {
  /** Waits while everybody waits. The next step throws the error, if there is one. */
  now(): void
  /** As `now`, but waits while others are answered. */
  later(): Promise<void>
}

/** A step that ends with a wait must be followed by the next one only when `now` or `later` has ended. */
export type Steps<T = void> = Generator<Wait | undefined, T>

/** @throws the error of the one that was called */
export function* waitFor(now: () => void, later: () => Promise<void>): Steps {
  let going: Promise<void> | undefined
  let ended: PromiseSettledResult<void> | undefined
  const wait: Wait = {
    now() {
      try {
        now()
        ended = { status: 'fulfilled', value: undefined }
      } catch (reason) {
        ended = { status: 'rejected', reason }
      }
    },
    later() {
      going ??= Promise.allSettled([later()]).then(([result]) => void (ended = result))
      return going
    },
  }
  while (!ended) yield wait
  if (ended.status === 'rejected') throw ended.reason
}

/** Does all steps now. */
export function doNow<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    step.value?.now()
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

/** @returns undefined if there are more steps. If one of them must wait, the waiting has begun */
export function doSome<T>(steps: Steps<T>, amount: Amount): Done<T> | undefined {
  const done = doSomeOrWait(steps, amount)
  return done instanceof Promise ? undefined : done
}

function doSomeOrWait<T>(
  steps: Steps<T>,
  { steps: least, ms = 0 }: Amount,
): Done<T> | Promise<void> | undefined {
  const end = performance.now() + ms
  for (let count = 0; count < least || performance.now() < end; count++) {
    const step = steps.next()
    if (step.done) return { value: step.value }
    if (step.value) return step.value.later()
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
    const done = doSomeOrWait(steps, piece)
    if (done instanceof Promise) await done
    else if (done) return done.value
  }
}
