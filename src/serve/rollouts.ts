/** The roll-outs of a site go on while its server runs, and machines restart that roll-outs ask to. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import pLimit from 'p-limit'

import { asNetimageError, NetimageError } from '../errors.ts'
import { openSiteDatabase, type SiteDatabase } from '../site/database.ts'
import { newLife, type Life, type Now } from '../site/life/life.ts'
import { rolloutToldBy } from '../site/log/entry.ts'
import { tell, type Rollout, type RolloutTold } from '../site/rollout/rollout.ts'
import {
  stepRollouts,
  type RestartOrder,
  type SteppedAll,
  type SteppedSite,
} from '../site/rollout/rollouts.ts'
import type { SiteRollouts } from '../site/rollout/statements.ts'
import { BrokenRow } from '../site/rows.ts'
import { restartMachine } from './restart-machine.ts'

export interface RolloutsSettings {
  state: string
  onTold: (told: RolloutTold) => void
  onError: (error: NetimageError) => void
  /** Default: runs the command. */
  restart?: typeof restartMachine
}

export interface Rollouts {
  /** Ends the commands that run. */
  close(): Promise<void>
}

/** How often roll-outs go on. Milliseconds. */
const tickMs = 2000
/** How often those are looked at in which only machines that come late can change something. */
const quietMs = 30_000
/** If more time than this has passed between two looks, this process was stopped. */
const longestMs = 60_000
/** So many lives are read in one turn of the event loop. */
const inOneTurn = 20
/** So many commands run at once. */
const mostCommands = 16

/**
 * The first step of each roll-out is done when this resolves.
 *
 * @throws `NetimageError` if the site cannot be opened
 */
export async function startRollouts(settings: RolloutsSettings): Promise<Rollouts> {
  const { state, onTold, onError, restart = restartMachine } = settings
  const database = openSiteDatabase(state)
  const ending = new AbortController()
  const { signal } = ending
  const commands = pLimit(mostCommands)
  const running = new Set<Promise<void>>()
  let uptime = database.read.uptime()
  let countedAt = performance.now()
  const lives = knownLives(database.read, signal)
  /** What the last look saw, and when a look is due in any case. */
  let [glanced, due] = ['', -Infinity]
  let working: Promise<void> | undefined

  function clock(): Now {
    const now = performance.now()
    uptime = Math.max(database.read.uptime(), uptime + Math.min(longestMs, now - countedAt))
    countedAt = now
    return { at: Date.now(), uptime }
  }

  async function goOn(): Promise<void> {
    const now = clock()
    const glance = database.read.glance()
    if (glance === '' || (glance === glanced && now.uptime < due)) return
    for (;;) {
      const read = database.read.rollouts()
      const { newest } = read
      await lives.look(newest, now)
      if (signal.aborted) return
      const isMoving = newest.some(({ state }) => state === 'running' || state === 'paused')
      due = now.uptime + (isMoving ? 0 : quietMs)
      glanced = glance
      const { orders, told, isUnfinished } = stepOn(database, read, lives.of, now, onError)
      for (const each of told) onTold(each)
      if (orders.length > 0) await database.durable()
      for (const order of orders) run(order)
      if (!isUnfinished) return
      await nextTurn()
    }
  }

  function run({ rollout, machine, command }: RestartOrder): void {
    const work = commands(async () => {
      if (signal.aborted) return
      const told = tell(rollout, await restart(command, signal), machine)
      try {
        database.change((writer) => writer.note(rolloutToldBy(told, Date.now())))
      } catch (error) {
        onError(asNetimageError(error))
      }
      onTold(told)
    })
    running.add(work)
    void work.finally(() => running.delete(work))
  }

  function tick(): void {
    working ??= goOn()
      .catch((error: unknown) => onError(asNetimageError(error)))
      .finally(() => (working = undefined))
  }

  tick()
  await working
  const timer = setInterval(tick, tickMs)
  return {
    async close() {
      clearInterval(timer)
      ending.abort()
      await working
      await Promise.all(running)
      database.close()
    },
  }
}

interface KnownLives {
  /** Reads the lives of the machines that have changed. */
  look: (rollouts: readonly Rollout[], now: Now) => Promise<void>
  /** @throws `BrokenRow` */
  of: (machine: string) => Life
}

/** Reads in pieces, so that machines do not wait for an answer meanwhile. */
function knownLives(read: SiteDatabase['read'], signal: AbortSignal): KnownLives {
  const known = new Map<string, { glance: string; life: Life | BrokenRow }>()
  let allFrom = -Infinity
  return {
    async look(rollouts, { uptime }) {
      // A glance does not see all changes.
      if (uptime - allFrom >= quietMs) known.clear()
      if (known.size === 0) allFrom = uptime
      let count = 0
      for (const machine of rollouts.flatMap(({ machines }) => Object.keys(machines))) {
        if (count++ % inOneTurn === 0) await nextTurn()
        if (signal.aborted) return
        const glance = read.glanceAt(machine)
        if (known.get(machine)?.glance === glance) continue
        known.set(machine, { glance, life: lifeIn(read, machine) })
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

const nothing: SteppedAll = { orders: [], told: [], isUnfinished: false }

/** A step in the transaction found more to change than the one before it. The next look finds it as well. */
class Outdated extends Error {}

/**
 * Writes only if there is something to write, so that others wait only then. The lives were read a moment
 * ago: those of machines that something is done to are read again in the transaction.
 */
function stepOn(
  database: SiteDatabase,
  read: SiteRollouts,
  of: KnownLives['of'],
  now: Now,
  onError: (error: NetimageError) => void,
): SteppedAll {
  const changed = new Set<string>()
  let isSame = true
  const found = stepRollouts(
    {
      of,
      keep: ({ machine }) => void changed.add(machine),
      rollouts: { read: () => read, keep: () => void (isSame = false) },
    },
    now,
    onError,
  )
  for (const { machine } of found.orders) changed.add(machine)
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
      for (const told of stepped.told) writer.note(rolloutToldBy(told, now.at))
      return stepped
    })
  } catch (error) {
    if (error instanceof Outdated) return nothing
    throw error
  }
}
