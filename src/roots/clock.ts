/**
 * The time of changes: no two are the same, since machines tell by it whether a file has changed.
 * Below the millisecond stands a count that goes on, so that a clock that is set back, and comes to
 * the same millisecond again, gives another time.
 */
import type { Time } from '../protocols/nfs/file-system.ts'

export function createClock(read: () => number = Date.now): () => Time {
  let count = -1
  return () => {
    const milliseconds = read()
    count = (count + 1) % 1e6
    const seconds = Math.floor(milliseconds / 1000)
    return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1e6 + count }
  }
}
