/**
 * The time of changes. Machines compare these times to see if a file has changed, so each time is
 * given only once. The digits below the millisecond are a count that always goes on: if the clock
 * is set back and comes to the same millisecond again, the count is another.
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
