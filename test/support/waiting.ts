// Waiting for something to happen. A test never asserts how long that took: the deadline is so long
// that it only turns a hang into a failure which says what the test waited for.

import { runInNewContext } from 'node:vm'

/** The real timers, taken before a test can mock them. */
const { setTimeout, clearTimeout } = globalThis

const deadlineMinutes = 15
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

/** For conditions without an event: checks repeatedly. @throws after the deadline */
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
 * Runs synchronous code on a large input. The input is so large that the code would run for hours
 * if its time grew with the square of the size.
 *
 * @throws after the deadline
 */
export function endsInTime(work: () => unknown): void {
  runInNewContext('work()', { work }, { timeout: deadlineMinutes * 60_000 })
}

function hung(what: string): Error {
  return new Error(`The test has waited ${deadlineMinutes} minutes for this: ${what}.`)
}
