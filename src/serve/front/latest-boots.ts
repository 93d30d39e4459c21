/** The last boot of each machine, as the shards have told it. */
import type { Boot } from '../../boots/follow.ts'
import { remember } from '../../remember.ts'

export interface LatestBoots {
  /** @param mayForget whether the machine may be invented */
  keep(boot: Boot, mayForget: boolean): void
  all: () => Boot[]
  /**
   * The boots that are under way. A machine that only asked, or whose boot gives no sign any more, is not
   * among them.
   *
   * @param now milliseconds since 1970
   */
  underWay: (now: number) => Boot[]
}

/** A boot may give no sign for this long while it goes on. Milliseconds. */
const longestMs = 10 * 60_000

/** Machines that are not served are remembered apart, so that they displace none that is served. */
const maxStrangers = 64

export function createLatestBoots(isServed: (machine: string) => boolean): LatestBoots {
  const machines = new Map<string, { boot: Boot; mayForget: boolean }>()
  const strangers = new Map<string, Boot>()
  return {
    keep(boot, mayForget) {
      const { machine } = boot
      if (!isServed(machine)) remember(strangers, machine, boot, maxStrangers)
      else if (machines.has(machine)) machines.set(machine, { boot, mayForget })
      else {
        const value = { boot, mayForget }
        remember(machines, machine, value, undefined, (one) => machines.get(one)?.mayForget ?? true)
      }
    },
    underWay: (now) =>
      [...machines.values()]
        .filter(({ boot, mayForget }) => !mayForget && isUnderWay(boot, now))
        .map(({ boot }) => boot),
    all: () => [...[...machines.values()].map(({ boot }) => boot), ...strangers.values()],
  }
}

function isUnderWay({ steps, isFromBefore, lastSign }: Boot, now: number): boolean {
  return steps.registered === undefined && isFromBefore !== true && now - lastSign <= longestMs
}
