/**
 * The site as its server sees it: the server tells what machines do, and asks what they boot.
 *
 * Nothing of this is in the way of an NFS or TFTP call: signs of machines are written together at the
 * end of a turn of the event loop. Only the start of an attempt waits until it is on the disk.
 */
import { asNetimageError, type NetimageError } from '../errors.ts'
import { openSiteDatabase, type SiteWriter } from './database.ts'
import { becomeUnseen, see, tick, type Sign } from './life/attempts.ts'
import { begin, keepChange } from './life/begin.ts'
import { assign, type Assigned, type Chooser, type Refused } from './life/choose.ts'
import {
  defaultPolicy,
  generationOf,
  lastAttempt,
  runningAttempt,
  type Attempt,
  type Candidate,
  type Generation,
  type Life,
  type Now,
  type Policy,
  type Told,
} from './life/life.ts'

/** What a machine boots in an attempt. */
export interface CurrentAttempt {
  attempt: Attempt
  generation: Generation
}

export interface Site {
  /** By machine, the attempts that ran when the last run of the server ended. */
  interrupted: ReadonlyMap<string, Attempt>
  /**
   * A machine starts. The attempt is on the disk when this resolves.
   *
   * @param byDefault what the machine boots if nobody chose anything for it
   * @returns undefined if the machine has nothing to boot
   * @throws `NetimageError`: the machine must not be answered then
   */
  beginAttempt(
    machine: string,
    at: number,
    byDefault?: Candidate,
  ): Promise<CurrentAttempt | undefined>
  /**
   * Gives a machine something to boot next, in trial. It is on the disk when this resolves. What was
   * bad on the machine is refused.
   *
   * @throws `NetimageError`
   */
  assign(
    machine: string,
    candidate: Candidate,
    at: number,
    by: Chooser,
  ): Promise<Assigned | Refused>
  /** The life of a machine, which may be new. @throws `NetimageError` */
  lifeOf(machine: string): Life
  /** The name that a person gave the machine. @throws `NetimageError` */
  nameOf(machine: string): string | undefined
  /** What the machine was bound to last. It may still run. @throws `NetimageError` */
  currentAttempt(machine: string): CurrentAttempt | undefined
  /** Whether the last attempt of the machine may be running. Reads nothing from the disk. */
  mayRun(machine: string): boolean
  /** What a machine does that has begun an attempt. */
  sign(machine: string, sign: Sign, at: number): void
  /** To be called every few seconds: decides what the passing of time decides. */
  tick(at: number): void
  /** Writes what is not written yet. */
  close(at: number): void
}

export interface SiteSettings {
  state: string
  /** The time of day at which the server starts. Milliseconds, as all times here. */
  at: number
  policy?: Policy
  onTold: (told: Told) => void
  /** Called once for a row of failures. */
  onError: (error: NetimageError) => void
}

/** How long a change may block the server while a command writes. Milliseconds. */
const timeout = 500
/** If more time than this has passed between two calls, the clock of the computer was set. */
const longestMs = 60_000
/** Signs of life are written this often for each machine. Milliseconds of uptime. */
const aliveMs = 60_000
/** Signs that wait while the database cannot be written. The oldest are dropped. */
const mostWaiting = 10_000

/** @throws `NetimageError` `bad-state`, also for the file of a newer netimage; `in-use` */
export function openSite(settings: SiteSettings): Site {
  const { state, policy = defaultPolicy, onTold, onError } = settings
  const database = openSiteDatabase(state, timeout)
  let [uptime, last] = [database.read.uptime(), settings.at]
  let waiting: { machine: string; sign: Sign; now: Now }[] = []
  /** Uptime of the last written sign of life. */
  const alive = new Map<string, number>()
  /** The machines whose last attempt may be running. */
  const running = new Set<string>()
  let written = uptime
  let [isDue, isFailing] = [false, false]

  function clock(at: number): Now {
    uptime += Math.min(longestMs, Math.max(0, at - last))
    last = at
    return { at, uptime }
  }

  /** Writes the signs that wait, and then does the action, in one transaction. */
  function change<T>(action: (writer: SiteWriter, told: Told[]) => T): T {
    const told: Told[] = []
    const result = database.change((writer) => {
      for (const { machine, sign, now } of waiting) {
        keepChange(writer, machine, told, (life) => see(life, sign, now))
      }
      const result = action(writer, told)
      writer.setUptime(uptime)
      return result
    })
    waiting = []
    written = uptime
    isFailing = false
    for (const each of told) onTold(each)
    return result
  }

  /** What waits is tried again later, if it cannot be written now. */
  function changeSoon(action: (writer: SiteWriter, told: Told[]) => void = () => {}): void {
    try {
      change(action)
    } catch (error) {
      waiting = waiting.slice(-mostWaiting)
      if (!isFailing) onError(asNetimageError(error))
      isFailing = true
    }
  }

  function flush(): void {
    if (!isDue) return
    isDue = false
    changeSoon()
  }

  function tickAll(writer: SiteWriter, told: Told[], now: Now): void {
    for (const machine of running) {
      const life = keepChange(writer, machine, told, (life) => tick(life, now, policy))
      if (!runningAttempt(life)) running.delete(machine)
    }
  }

  const interrupted = new Map<string, Attempt>()
  change((writer) => {
    const now = { at: settings.at, uptime }
    for (const { machine } of writer.signs()) {
      const unseen = (life: Life) => ({ life: becomeUnseen(life, now), told: [] })
      const attempt = runningAttempt(keepChange(writer, machine, [], unseen))
      if (!attempt) continue
      running.add(machine)
      interrupted.set(machine, attempt)
    }
  })

  return {
    interrupted,
    async beginAttempt(machine, at, byDefault) {
      const now = clock(at)
      alive.set(machine, now.uptime)
      running.add(machine)
      const life = change((writer, told) => {
        const begun = begin(writer, machine, { now, policy, byDefault })
        told.push(...begun.told)
        return begun.life
      })
      await database.durable()
      return currentIn(life)
    },
    async assign(machine, candidate, at, by) {
      const now = clock(at)
      const assigned = change((writer) => {
        const assigned = assign(writer.of(machine), candidate, now, by)
        if (!('refused' in assigned)) writer.keep(assigned.life)
        return assigned
      })
      await database.durable()
      return assigned
    },
    lifeOf: database.read.lifeOf,
    nameOf: (machine) => database.read.names().get(machine),
    currentAttempt: (machine) => currentIn(database.read.lifeOf(machine)),
    mayRun: (machine) => running.has(machine),
    sign(machine, sign, at) {
      const now = clock(at)
      const before = alive.get(machine)
      if (sign.kind === 'alive' && before !== undefined && now.uptime - before < aliveMs) return
      alive.set(machine, now.uptime)
      waiting.push({ machine, sign, now })
      if (!isDue) setImmediate(flush)
      isDue = true
    },
    tick(at) {
      const now = clock(at)
      if (running.size === 0 && waiting.length === 0 && uptime - written < longestMs) return
      changeSoon((writer, told) => tickAll(writer, told, now))
    },
    close(at) {
      clock(at)
      isDue = false
      changeSoon()
      database.close()
    },
  }
}

function currentIn(life: Life): CurrentAttempt | undefined {
  const attempt = lastAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  return attempt && generation ? { attempt, generation } : undefined
}
