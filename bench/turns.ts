/** How long the turns of this process's event loop take. */

export interface Turns {
  /** Milliseconds. */
  longest: number
  /** Milliseconds of processor time of this thread. */
  busiest: number
}

/** Looks every millisecond how long the turns of the loop take. @returns a function that ends this */
export function watchTurns(): () => Turns {
  const turns: Turns = { longest: 0, busiest: 0 }
  const used = () => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1000
  }
  let [at, cpu] = [performance.now(), used()]
  const look = () => {
    const [now, usedNow] = [performance.now(), used()]
    turns.longest = Math.max(turns.longest, now - at)
    turns.busiest = Math.max(turns.busiest, usedNow - cpu)
    ;[at, cpu] = [now, usedNow]
  }
  const timer = setInterval(look, 1)
  return () => {
    clearInterval(timer)
    look()
    return turns
  }
}
