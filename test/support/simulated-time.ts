// A clock for machines of a test, and random numbers that are the same in each run.

/**
 * @param count how many live by the clock: it goes on when all of them sleep
 * @param setTo sets the clock, and lets a server do what it does when time passes
 */
export function createTime(count: number, now: () => number, setTo: (at: number) => Promise<void>) {
  let awake = count
  let sleepers: { until: number; wake: () => void }[] = []

  function rest(): void {
    awake--
    if (awake === 0 && sleepers.length > 0) void pass()
  }

  async function pass(): Promise<void> {
    const next = Math.min(...sleepers.map(({ until }) => until))
    // A server looks at its clock all the time.
    while (now() < next) await setTo(Math.min(next, now() + 60_000))
    const due = sleepers.filter(({ until }) => until <= now())
    sleepers = sleepers.filter(({ until }) => until > now())
    awake += due.length
    for (const { wake } of due) wake()
  }

  return {
    sleep(milliseconds: number): Promise<void> {
      const slept = new Promise<void>((resolve) =>
        sleepers.push({ until: now() + milliseconds, wake: resolve }),
      )
      rest()
      return slept
    },
    async all(lives: readonly Promise<void>[]): Promise<void> {
      await Promise.all(lives.map((life) => life.finally(rest)))
    },
  }
}

/** A small generator of random numbers: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
