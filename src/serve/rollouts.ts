/** The roll-outs of a site go on while its server runs, and machines restart that roll-outs ask to. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import pLimit from 'p-limit'

import { asNetimageError, NetimageError } from '../errors.ts'
import { openSiteDatabase } from '../site/database.ts'
import type { Now } from '../site/life/life.ts'
import { rolloutToldBy } from '../site/log/entry.ts'
import { tell, type RolloutTold } from '../site/rollout/rollout.ts'
import type { RestartOrder } from '../site/rollout/rollouts.ts'
import { knownLives, quietMs, stepOn } from '../site/rollout/step-site.ts'
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
/** If more time than this has passed between two looks, this process was stopped. */
const longestMs = 60_000
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
