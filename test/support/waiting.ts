// Waiting for something to happen. A test never asserts how long that took: a wait ends with its test, so that it
// does not hold the test process after another promise of the test has failed. The limit of a test only turns a
// hang into a failure (scripts/test.sh).

import { after, getTestContext, type SuiteContext, type TestContext } from 'node:test'
import { runInNewContext } from 'node:vm'

/** The real timers, taken before a test can mock them. */
const { setTimeout, setInterval, clearInterval } = globalThis

const betweenLooksMs = 5
/** The limit of a test cannot interrupt synchronous code. */
const synchronousMinutes = 15

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** Tells what is still waited for, and ends the wait. */
type End = (context: TestContext | SuiteContext) => void

const waitsOfTests = new WeakMap<TestContext | SuiteContext, Set<End>>()

/**
 * Outside of a test, and in a hook that runs after it, a wait has no end.
 *
 * @param what the event, or a function that describes it if it has not come
 * @throws if the test has ended before
 */
export async function waitFor<T>(what: string | (() => string), promise: Promise<T>): Promise<T> {
  const ended = Promise.withResolvers<never>()
  const waits = waitsOfTest()
  const end: End = (context) => {
    const told = `The test has ended while it waited for this: ${typeof what === 'string' ? what : what()}`
    context.diagnostic(told)
    ended.reject(new Error(told))
  }
  waits?.add(end)
  // What is waited for may not keep the process, and then nothing would be told.
  const keepsProcess = setInterval(() => {}, 60_000)
  try {
    return await Promise.race([promise, ended.promise])
  } finally {
    clearInterval(keepsProcess)
    waits?.delete(end)
  }
}

/** The waits of the test, suite or hook that runs now. */
function waitsOfTest(): Set<End> | undefined {
  const context = getTestContext()
  if (!context) return undefined
  const known = waitsOfTests.get(context)
  if (known) return known
  const waits = new Set<End>()
  waitsOfTests.set(context, waits)
  // The signal of a context does not tell the end of a suite whose hook has failed.
  after(() => {
    for (const end of waits) end(context)
  })
  return waits
}

/** For conditions without an event: checks repeatedly. @throws if the test has ended before */
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
 * @throws after a quarter of an hour
 */
export function endsInTime(work: () => unknown): void {
  runInNewContext('work()', { work }, { timeout: synchronousMinutes * 60_000 })
}
