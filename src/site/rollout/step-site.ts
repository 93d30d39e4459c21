/**
 * Steps the roll-outs of a site beside its server: reads only the lives that have changed, and writes only if
 * there is something to write.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

import type { NetimageError } from '../../errors.ts'
import type { SiteDatabase } from '../database.ts'
import { newLife, type Life, type Now } from '../life/life.ts'
import { rolloutToldBy } from '../log/entry.ts'
import { BrokenRow } from '../rows.ts'
import { named } from './halt.ts'
import type { Rollout } from './rollout.ts'
import { stepRollouts, type SteppedAll, type SteppedSite } from './rollouts.ts'
import type { SiteRollouts } from './statements.ts'

/**
 * How often all lives are read anew, and roll-outs are looked at in which only machines that come late can
 * change something. Milliseconds.
 */
export const quietMs = 30_000
/** So many lives are read in one turn of the event loop. */
const inOneTurn = 20

export interface KnownLives {
  /** Reads the lives of the machines that have changed. */
  look: (rollouts: readonly Rollout[], now: Now) => Promise<void>
  /** @throws `BrokenRow` */
  of: (machine: string) => Life
}

/** Reads in pieces, so that machines do not wait for an answer meanwhile. */
export function knownLives(read: SiteDatabase['read'], signal: AbortSignal): KnownLives {
  const known = new Map<string, { fingerprint: string; life: Life | BrokenRow }>()
  let allFrom = -Infinity
  return {
    async look(rollouts, { uptime }) {
      // A fingerprint does not show all changes.
      if (uptime - allFrom >= quietMs) known.clear()
      if (known.size === 0) allFrom = uptime
      let count = 0
      for (const machine of rollouts.flatMap(({ machines }) => Object.keys(machines))) {
        if (count++ % inOneTurn === 0) await nextTurn()
        if (signal.aborted) return
        const fingerprint = read.lifeFingerprint(machine)
        if (known.get(machine)?.fingerprint === fingerprint) continue
        known.set(machine, { fingerprint, life: lifeIn(read, machine) })
      }
    },
    of(machine) {
      const { life } = known.get(machine) ?? { life: newLife(machine) }
      if (life instanceof BrokenRow) throw life
      return life
    },
  }
}

function lifeIn(read: SiteDatabase['read'], machine: string): Life | BrokenRow {
  try {
    return read.lifeOf(machine)
  } catch (error) {
    if (error instanceof BrokenRow) return error
    throw error
  }
}

const nothing: SteppedAll = { restarts: [], told: [], isUnfinished: false }

/** A step in the transaction found more to change than the one before it. The next look finds it as well. */
class Outdated extends Error {}

/**
 * Writes only if there is something to write, so that others wait only then. The lives were read a moment
 * ago: those of machines that something is done to are read again in the transaction.
 */
export function stepOn(
  database: SiteDatabase,
  read: SiteRollouts,
  of: KnownLives['of'],
  now: Now,
  onError: (error: NetimageError) => void,
): SteppedAll {
  const changed = new Set<string>()
  let isSame = true
  stepRollouts(
    {
      of,
      keep: ({ machine }) => void changed.add(machine),
      rollouts: {
        read: () => read,
        keep: () => void (isSame = false),
        setRequest: (machine) => void changed.add(machine),
      },
    },
    now,
    onError,
  )
  if (isSame && changed.size === 0) return nothing
  try {
    return database.change((writer) => {
      writer.setUptime(now.uptime)
      const site: SteppedSite = {
        of: (machine) => (changed.has(machine) ? writer.of(machine) : of(machine)),
        keep(life) {
          if (!changed.has(life.machine)) throw new Outdated()
          writer.keep(life)
        },
        rollouts: writer.rollouts,
      }
      const stepped = stepRollouts(site, now, () => {})
      const names = writer.names()
      const told = stepped.told.map((each) => named(each, names))
      for (const each of told) writer.note(rolloutToldBy(each, now.at))
      return { ...stepped, told }
    })
  } catch (error) {
    if (error instanceof Outdated) return nothing
    throw error
  }
}
