/** Ends a program together with all programs that it started. */
import type { ChildProcess } from 'node:child_process'

import { errnoOf } from './errors.ts'

/** How long programs may take to end after SIGTERM. */
export const patienceMs = 2000

/** @param leader a process that was started as `detached`; nothing happens if it did not start */
export function endGroup({ pid }: ChildProcess, how: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, how)
  } catch (error) {
    // The whole group has ended.
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}

/**
 * Ends the group when `signal` is aborted: with SIGTERM, and after some time with SIGKILL.
 *
 * @returns a function to call when the leader has ended: the signal then has no effect any more
 */
export function endGroupOn(signal: AbortSignal, leader: ChildProcess): () => void {
  let timer: NodeJS.Timeout | undefined
  const end = () => {
    endGroup(leader, 'SIGTERM')
    timer = setTimeout(() => endGroup(leader, 'SIGKILL'), patienceMs)
  }
  if (signal.aborted) end()
  else signal.addEventListener('abort', end, { once: true })
  return () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
  }
}
