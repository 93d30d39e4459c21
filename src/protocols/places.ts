/** Counts those who wait, so that one machine does not take the places of all others. */
export interface Places {
  /** @returns false if this machine, or all machines together, have no place left */
  take(machine: string): boolean
  /** To be called once for each place that was taken. */
  free(machine: string): void
}

export interface PlacesSettings {
  most: number
  mostOfMachine: number
}

export function createPlaces({ most, mostOfMachine }: PlacesSettings): Places {
  const taken = new Map<string, number>()
  let all = 0
  return {
    take(machine) {
      const ofMachine = taken.get(machine) ?? 0
      if (all >= most || ofMachine >= mostOfMachine) return false
      taken.set(machine, ofMachine + 1)
      all++
      return true
    },
    free(machine) {
      const left = (taken.get(machine) ?? 0) - 1
      if (left > 0) taken.set(machine, left)
      else taken.delete(machine)
      all--
    },
  }
}
