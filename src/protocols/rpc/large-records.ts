/**
 * Limits how many large records may arrive at the same time, in all and of one machine, because a record is
 * kept in memory until it is complete. Further large records wait for a place.
 */
import { createQuota, type QuotaSettings } from '../quota.ts'

export interface LargeRecords {
  /**
   * @param machine whose record it is
   * @param begin called when there is a place, maybe at once
   * @returns a function that gives the place back, or leaves the queue
   */
  takePlace(machine: string, begin: () => void): () => void
}

interface Entry {
  machine: string
  begin: () => void
}

export function createLargeRecords(limits: QuotaSettings): LargeRecords {
  const places = createQuota(limits)
  const inside = new Set<Entry>()
  const queue = new Set<Entry>()

  function admit(): void {
    for (const entry of queue) {
      if (!places.take(entry.machine)) continue
      queue.delete(entry)
      inside.add(entry)
      entry.begin()
    }
  }

  return {
    takePlace(machine, begin) {
      const entry = { machine, begin }
      queue.add(entry)
      admit()
      return () => {
        queue.delete(entry)
        if (!inside.delete(entry)) return
        places.free(machine)
        admit()
      }
    },
  }
}
