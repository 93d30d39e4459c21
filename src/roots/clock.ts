/** The time of changes: no two are the same, since machines tell by it whether a file has changed. */
import type { Time } from '../protocols/nfs/file-system.ts'

export function createClock(read: () => number = Date.now): () => Time {
  let last = 0
  let count = 0
  return () => {
    const milliseconds = read()
    count = milliseconds === last ? count + 1 : 0
    last = milliseconds
    const seconds = Math.floor(milliseconds / 1000)
    return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1e6 + (count % 1e6) }
  }
}
