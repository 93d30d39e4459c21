/**
 * Limits how many large records of all connections may arrive at the same time, because a record is
 * kept in memory until it is complete. Further large records wait for a place.
 */
export interface LargeRecords {
  /**
   * @param begin called when there is a place, maybe at once
   * @returns a function that gives the place back, or leaves the queue
   */
  takePlace(begin: () => void): () => void
}

export function createLargeRecords(places: number): LargeRecords {
  const inside = new Set<() => void>()
  const queue = new Set<() => void>()

  function admit(): void {
    for (const begin of queue) {
      if (inside.size >= places) return
      queue.delete(begin)
      inside.add(begin)
      begin()
    }
  }

  return {
    takePlace(begin) {
      // A new function for each call, so that two calls with one function take two places.
      const entry = () => begin()
      queue.add(entry)
      admit()
      return () => {
        queue.delete(entry)
        if (inside.delete(entry)) admit()
      }
    },
  }
}
