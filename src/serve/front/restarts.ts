/** When the next process of a shard starts, if the last one has ended. */

/** A process that ends so often in a row, each time before it has served for so long, is failing. */
const [maxEnds, servedMs] = [8, 10_000]
/**
 * The pause before another start, after the second such end; then it doubles. While the process is failing,
 * the pause is long, because each start takes processor time from the processes of other machines.
 */
const [firstPauseMs, longPauseMs] = [500, 60_000]

export interface Restarts {
  /** To be called when a process begins to serve its machines. */
  serves(): void
  /**
   * To be called when a process has ended.
   *
   * @returns the pause before the next one. Milliseconds
   */
  ended(): number
  /** Whether processes end again and again, and the one that runs now has not served for long either. */
  isFailing: () => boolean
}

/** @param now milliseconds of a monotonic clock */
export function createRestarts(now: () => number): Restarts {
  /** When the process that runs now began to serve its machines. */
  let servesSince: number | undefined
  /** How many processes in a row have not served for long. */
  let shortLives = 0
  const hasServed = () => servesSince !== undefined && now() - servesSince >= servedMs
  return {
    serves() {
      servesSince = now()
    },
    ended() {
      shortLives = hasServed() ? 0 : shortLives + 1
      servesSince = undefined
      if (shortLives < 2) return 0
      return shortLives < maxEnds ? firstPauseMs * 2 ** (shortLives - 2) : longPauseMs
    },
    isFailing: () => shortLives >= maxEnds && !hasServed(),
  }
}
