/** The roll-outs of a site go on while its server runs, and machines restart that roll-outs ask to. */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'

import { asNetimageError, NetimageError } from '../errors.ts'
import { openSiteDatabase } from '../site/database.ts'
import type { Now } from '../site/life/life.ts'
import { rolloutToldBy } from '../site/log/entry.ts'
import { beginCommand, endCommand, recoverCommands } from '../site/rollout/restart-commands.ts'
import { tell, type RolloutTold } from '../site/rollout/rollout.ts'
import type { DueRestart } from '../site/rollout/rollouts.ts'
import { knownLives, quietMs, stepOn } from '../site/rollout/step-site.ts'
import type { SiteWriter } from '../site/statements.ts'
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
  let [seen, due] = ['', -Infinity]
  let working: Promise<void> | undefined
  /** Whether it is known what became of the commands of the servers before. */
  let isRecovered = false

  function clock(): Now {
    const now = performance.now()
    uptime = Math.max(database.read.uptime(), uptime + Math.min(longestMs, now - countedAt))
    countedAt = now
    return { at: Date.now(), uptime }
  }

  async function goOn(): Promise<void> {
    const now = clock()
    const fingerprint = database.read.rolloutFingerprint()
    if (fingerprint === '' || (fingerprint === seen && now.uptime < due)) return
    if (!isRecovered) {
      const told = database.change((writer) =>
        noted(writer, recoverCommands(writer, writer.rollouts.read().requests)),
      )
      isRecovered = true
      for (const each of told) onTold(each)
    }
    for (;;) {
      const read = database.read.rollouts()
      const { newest } = read
      await lives.look(newest, now)
      if (signal.aborted) return
      const isMoving = newest.some(({ state }) => state === 'running' || state === 'paused')
      due = now.uptime + (isMoving ? 0 : quietMs)
      seen = fingerprint
      const { restarts, told, isUnfinished } = stepOn(database, read, lives.of, now, onError)
      for (const each of told) onTold(each)
      for (const each of restarts) run(each)
      if (!isUnfinished) return
      await nextTurn()
    }
  }

  function run(restart: DueRestart): void {
    const work = commands(() => runOne(restart)).catch((error: unknown) => {
      onError(asNetimageError(error))
    })
    running.add(work)
    void work.finally(() => running.delete(work))
  }

  async function runOne({ rollout, machine, command }: DueRestart): Promise<void> {
    if (signal.aborted) return
    const begun = await atLast(async () => {
      const now = clock()
      const begun = database.change((writer) => {
        const { mayRun, told } = beginCommand(writer, machine, now)
        return { mayRun, told: noted(writer, told) }
      })
      // Otherwise it could run twice, if the power of the server fails.
      if (begun.mayRun) await database.durable()
      return begun
    })
    for (const each of begun?.told ?? []) onTold(each)
    if (!begun?.mayRun || signal.aborted) return
    const told = tell(rollout, await restart(command, signal), machine)
    await atLast(() =>
      database.change((writer) => {
        noted(writer, [told])
        if (!signal.aborted) endCommand(writer, machine)
      }),
    )
    onTold(told)
  }

  /** A request whose command could not be recorded would have its slot for ever. */
  async function atLast<T>(action: () => T | Promise<T>): Promise<T | undefined> {
    for (let isFirst = true; ; isFirst = false) {
      try {
        return await action()
      } catch (error) {
        if (isFirst) onError(asNetimageError(error))
      }
      await sleep(tickMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) return undefined
    }
  }

  function tick(): void {
    working ??= goOn()
      .catch((error: unknown) => onError(asNetimageError(error)))
      .finally(() => (working = undefined))
  }

  function noted(writer: SiteWriter, told: readonly RolloutTold[]): readonly RolloutTold[] {
    for (const each of told) writer.note(rolloutToldBy(each, Date.now()))
    return told
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
