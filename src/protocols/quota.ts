/** Counts those who wait or work, so that one machine does not take the places of all others. */
export interface Quota {
  /**
   * @param key of whom the place is: a machine, an address
   * @returns false if there is no place left for this key, or for all together
   */
  take(key: string): boolean
  /** To be called once for each place that was taken. */
  free(key: string): void
}

export interface QuotaSettings {
  most: number
  mostOfKey: number
}

export function createQuota({ most, mostOfKey }: QuotaSettings): Quota {
  const taken = new Map<string, number>()
  let all = 0
  return {
    take(key) {
      const ofKey = taken.get(key) ?? 0
      if (all >= most || ofKey >= mostOfKey) return false
      taken.set(key, ofKey + 1)
      all++
      return true
    },
    free(key) {
      const left = (taken.get(key) ?? 0) - 1
      if (left > 0) taken.set(key, left)
      else taken.delete(key)
      all--
    },
  }
}
