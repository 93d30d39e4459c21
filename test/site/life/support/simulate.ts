// Machines with a clock of their own.

import assert from 'node:assert/strict'
import { becomeUnseen, see, tick, type Sign } from '../../../../src/site/life/attempts.ts'
import { begin, type Lives } from '../../../../src/site/life/begin.ts'
import { assign, type Assigned } from '../../../../src/site/life/choose.ts'
import {
  defaultPolicy,
  generationOf,
  lastAttempt,
  newLife,
  type Candidate,
  type Changed,
  type Life,
  type Told,
} from '../../../../src/site/life/life.ts'

export const minutes = 60_000

export function candidate(image: string, more: Partial<Candidate> = {}): Candidate {
  const toplevel = `/nix/store/${image}-system`
  return { image, toplevel, blesses: true, ...more }
}

/** As `assign`, for what was not bad. */
export function assignAllowed(...args: Parameters<typeof assign>): Assigned {
  const assigned = assign(...args)
  return 'refused' in assigned ? assert.fail('it was bad before') : assigned
}

/** One machine. */
export function simulate(machine = 'dc:a6:32:01:02:03') {
  const site = simulateSite()
  const life = () => site.of(machine)
  const simulated = {
    told: site.told,
    apply: (change: (life: Life) => Changed) => site.change(machine, change),
    get life() {
      return life()
    },
    get now() {
      return site.now
    },
    assign: (image: string) =>
      simulated.apply((life) => {
        const assigned = assign(life, candidate(image), site.now, 'person')
        return 'refused' in assigned ? { life, told: [] } : assigned
      }),
    begin: () => site.begin(machine),
    asksDhcp: () => site.asksDhcp(machine),
    see: (sign: Sign) => site.see(machine, sign),
    bless: () => site.bless(machine),
    wait: (milliseconds: number) => site.wait(milliseconds),
    comesUp() {
      simulated.begin()
      simulated.bless()
      simulated.wait(defaultPolicy.settle)
    },
    serverRestarts: () => site.serverRestarts(),
    generation: (number: number) => generationOf(life(), number),
    verdict: (number: number) => generationOf(life(), number)?.verdict,
  }
  return simulated
}

/** Several machines with one clock. */
export function simulateSite() {
  const lives = new Map<string, Life>()
  let uptime = 0
  let boots = 0
  const told: Told[] = []
  const now = () => ({ at: 1_000_000 + uptime, uptime })
  const of = (name: string) => lives.get(name) ?? newLife(name)
  const machinesSince = (since: number, uptimeOf: (life: Life) => number | undefined) =>
    [...lives.values()]
      .filter((life) => (uptimeOf(life) ?? -Infinity) >= since)
      .map(({ machine }) => machine)
  const site = {
    told,
    of,
    lives,
    get now() {
      return now()
    },
    change(name: string, action: (life: Life) => Changed) {
      const changed = action(of(name))
      lives.set(name, changed.life)
      told.push(...changed.told)
    },
    /** @returns the number of the generation that the machine is bound to */
    begin(name: string): number | undefined {
      const bound = site.asksDhcp(name)
      site.see(name, { kind: 'asks' })
      return bound
    },
    /** The machine begins an attempt, and asks for no boot file so far. */
    asksDhcp(name: string): number | undefined {
      const store: Lives = {
        of,
        keep: (life) => void lives.set(life.machine, life),
        ranSince: (since) => machinesSince(since, ({ lastSign }) => lastSign).length,
        restartedSince: (since) => machinesSince(since, ({ restart }) => restart?.uptime).length,
        failedSince: (since) =>
          machinesSince(since, ({ restart }) =>
            restart?.failed === undefined ? undefined : restart.uptime,
          ),
      }
      const begun = begin(store, name, { now: now(), policy: defaultPolicy })
      told.push(...begun.told)
      return lastAttempt(begun.life)?.generation
    },
    see: (name: string, sign: Sign) => site.change(name, (life) => see(life, sign, now())),
    bless(name: string) {
      const bound = generationOf(of(name), lastAttempt(of(name))?.generation)
      site.see(name, { kind: 'bless', bootId: String(++boots), toplevel: bound?.toplevel ?? '' })
    },
    wait(milliseconds: number) {
      uptime += milliseconds
      for (const name of lives.keys()) site.change(name, (life) => tick(life, now(), defaultPolicy))
    },
    serverRestarts() {
      for (const life of lives.values()) lives.set(life.machine, becomeUnseen(life, now()))
    },
  }
  return site
}
