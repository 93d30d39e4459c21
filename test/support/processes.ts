// Looks at processes that a test or a measurement has started.

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

/** The processes that this process has started, and that have not ended. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
  return text.split(' ').filter(Boolean).map(Number)
}

/** The most memory that a process has had resident at once, with all its threads. Bytes. */
export function peakMemoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
}
