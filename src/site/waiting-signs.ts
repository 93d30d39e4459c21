/** Signs of machines that are not written yet. Signs of one machine that say the same are one. */
import { isDeepStrictEqual } from 'node:util'

import { remember } from '../remember.ts'
import { see, type Sign } from './life/attempts.ts'
import { unchanged, type Changed, type Life, type Now, type Told } from './life/life.ts'

export interface WaitingSigns {
  add(machine: string, sign: Sign, now: Now): void
  has(machine: string): boolean
  machines(): string[]
  /** The life of the machine with its signs. The signs still wait afterwards. */
  applyTo(life: Life): Changed
  /** The signs of the machine are written. */
  written(machine: string): void
}

interface OfMachine {
  /** The times of the first and the last sign. */
  first: Now
  last: Now
  /** The oldest first. Signs of life are only times. */
  signs: readonly Waiting[]
}

interface Waiting {
  sign: Sign
  now: Now
}

/**
 * The most signs of a machine that wait. A machine that works has fewer different ones. The
 * oldest is dropped.
 */
const mostOfMachine = 32

export function createWaitingSigns(): WaitingSigns {
  const waiting = new Map<string, OfMachine>()

  return {
    add(machine, sign, now) {
      const { first = now, signs = [] } = waiting.get(machine) ?? {}
      const all = sign.kind === 'alive' ? signs : withSign(signs, { sign, now })
      remember(waiting, machine, { first, last: now, signs: all.slice(-mostOfMachine) })
    },
    has: (machine) => waiting.has(machine),
    machines: () => [...waiting.keys()],
    applyTo(life) {
      const found = waiting.get(life.machine)
      if (!found) return unchanged(life)
      const alive = { kind: 'alive' } as const
      const told: Told[] = []
      let next = see(life, alive, found.first).life
      for (const { sign, now } of found.signs) {
        const changed = see(next, sign, now)
        next = changed.life
        told.push(...changed.told)
      }
      return { life: see(next, alive, found.last).life, told }
    },
    written: (machine) => void waiting.delete(machine),
  }
}

/**
 * The first time counts for what a machine has reached, and the last text for what it says. A machine
 * that waits again has waited all the time: otherwise its waits could take the place of other signs.
 */
function withSign(signs: readonly Waiting[], added: Waiting): readonly Waiting[] {
  const { sign } = added
  if (sign.kind === 'waits' || sign.kind === 'waited') {
    const isWaiting = signs.some((each) => each.sign.kind === 'waits')
    const others = signs.filter((each) => each.sign.kind !== 'waited')
    if (sign.kind === 'waited') return [...others, added]
    return isWaiting ? others : [...signs, added]
  }
  if (sign.kind === 'trouble' || sign.kind === 'profile') {
    return [...signs.filter((each) => each.sign.kind !== sign.kind), added]
  }
  const before =
    sign.kind === 'bless'
      ? signs.findLast((each) => each.sign.kind === 'bless')
      : signs.find((each) => isDeepStrictEqual(each.sign, sign))
  return before && isDeepStrictEqual(before.sign, sign) ? signs : [...signs, added]
}
