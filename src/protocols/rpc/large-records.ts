/**
 * Records that do not arrive whole are kept until they are, and large ones take memory: so many of
 * all connections may be on their way at a time, and the others wait for their turn.
 */
export interface LargeRecords {
  /**
   * @param begin called once there is a place, perhaps at once
   * @returns gives the place back, or leaves the queue
   */
  enter(begin: () => void): () => void
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
    enter(begin) {
      // Another function for each: one that enters twice has two places.
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
