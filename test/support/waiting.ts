// Waiting for something to happen. A test never asserts how long that took: the deadline is so long
// that it only turns a hang into a failure which says what the test waited for.

import { runInNewContext } from 'node:vm'

/** Taken here, so that mock timers of a test do not stop these. */
const { setTimeout, clearTimeout } = globalThis

const deadlineMinutes = 3
const betweenLooksMs = 5

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** @throws after the deadline */
export async function waitFor<T>(what: string, promise: Promise<T>): Promise<T> {
  const hang = Promise.withResolvers<never>()
  const timer = setTimeout(() => hang.reject(hung(what)), deadlineMinutes * 60_000)
  try {
    return await Promise.race([promise, hang.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** For what tells nobody when it happens: looks again and again until it is so. @throws after the deadline */
export async function waitUntil(
  what: string,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  let isOver = false
  const looks = async () => {
    while (!isOver && !(await isSo())) await sleep(betweenLooksMs)
  }
  try {
    await waitFor(what, looks())
  } finally {
    isOver = true
  }
}

/**
 * Does what does not return to the event loop. Its input is so large that, if the time grew with the
 * square of that, it would take hours.
 *
 * @throws after the deadline
 */
export function endsInTime(work: () => unknown): void {
  runInNewContext('work()', { work }, { timeout: deadlineMinutes * 60_000 })
}

function hung(what: string): Error {
  return new Error(`The test has waited ${deadlineMinutes} minutes for this: ${what}.`)
}
