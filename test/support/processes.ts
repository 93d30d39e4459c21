// Looks at processes that a test has started.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { waitUntil } from './waiting.ts'

/** Waits until the process has ended. If the wait fails, ends the process. */
export async function assertGone(pid: number): Promise<void> {
  assert.ok(pid > 1)
  try {
    await waitUntil(`process ${pid} ends`, () => !isRunning(pid))
  } finally {
    end(pid)
  }
}

export function isRunning(pid: number): boolean {
  try {
    // A zombie has ended as well, once its other threads have: until then its files are locked.
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return !(/^State:\s+Z/m.test(status) && /^Threads:\s+[01]$/m.test(status))
  } catch {
    return false
  }
}

/** Ends only processes that this test has started. */
export function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // The process had ended.
  }
}
