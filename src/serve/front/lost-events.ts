/**
 * Tells how many events no process could take. A host can send very many requests, so this is told in one
 * sentence every ten seconds.
 */
import type { NetimageError } from '../../errors.ts'
import { eventsAreLost } from './failures.ts'

export interface LostEvents {
  /** To be called for each event of a served machine that was dropped. */
  lose(): void
  /** Tells of those that were not told yet. Nobody misses those that come later. */
  close(): void
}

const everyMs = 10_000

export function createLostEvents(onError: (error: NetimageError) => void): LostEvents {
  let count = 0
  let timer: NodeJS.Timeout | undefined
  let isClosed = false

  function tell(): void {
    timer = undefined
    if (count > 0) onError(eventsAreLost(count))
    count = 0
  }

  return {
    lose() {
      if (isClosed) return
      count++
      timer ??= setTimeout(tell, everyMs)
    },
    close() {
      isClosed = true
      clearTimeout(timer)
      tell()
    },
  }
}
