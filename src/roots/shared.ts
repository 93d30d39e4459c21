/** Things that several users share, and that are closed when their last user has closed them. */

export interface Shared<Value> {
  /** @param make called if nobody has the value */
  take(key: string, make: () => Value): Value
  has(key: string): boolean
  /** To be called once for each `take`. */
  release(key: string): void
}

export function createShared<Value>(close: (value: Value) => void): Shared<Value> {
  const all = new Map<string, { value: Value; users: number }>()
  return {
    take(key, make) {
      const known = all.get(key) ?? { value: make(), users: 0 }
      known.users++
      all.set(key, known)
      return known.value
    },
    has: (key) => all.has(key),
    release(key) {
      const known = all.get(key)
      if (!known || --known.users > 0) return
      all.delete(key)
      close(known.value)
    },
  }
}
