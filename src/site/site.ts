/**
 * The site as its server sees it: the server tells what machines do, and asks what they boot.
 *
 * Nothing of this is in the way of an NFS or TFTP call: signs of machines are written together at the
 * end of a turn of the event loop. Only the start of an attempt waits until it is on the disk, and its first
 * boot file until the database says that it was asked for.
 *
 * A server can be several processes, each with some of the machines. A process writes the lives of its
 * own machines. Only a power cut concerns machines of all processes. Lives are read and written in one
 * transaction, so commands and other processes can write at any time. While one of them writes, this process
 * answers its machines, and tries again.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { asNetimageError, NetimageError } from '../errors.ts'
import { openSiteDatabase } from './database.ts'
import type { Declarations } from './declarations.ts'
import type { HostKey } from './host-key/open-ssh.ts'
import {
  becomeUnseen,
  see,
  tick,
  portsToTryIn,
  type Sign,
  type PortsToTry,
} from './life/attempts.ts'
import { begin, keepChange, type Choice } from './life/begin.ts'
import { assign, type Assigned, type Chooser, type Refused } from './life/choose.ts'
import {
  defaultPolicy,
  generationOf,
  isTakenBack,
  lastAttempt,
  runningAttempt,
  unchanged,
  type Attempt,
  type Candidate,
  type Changed,
  type Generation,
  type Life,
  type Now,
  type Policy,
  type StateBack,
  type Told,
} from './life/life.ts'
import { isBack } from './life/states.ts'
import {
  givenOf,
  rolloutToldBy,
  toldBy,
  type Entry,
  type OfMachine,
  type Who,
} from './log/entry.ts'
import { newestOf } from './rollout/statements.ts'
import { letRestart, noteReadiness } from './rollout/restart-itself.ts'
import { BrokenRow } from './rows.ts'
import type { SiteWriter } from './statements.ts'
import { createWaitingSigns } from './waiting-signs.ts'

/** What a machine boots in an attempt. */
export interface CurrentAttempt {
  attempt: Attempt
  generation: Generation
}

export interface Site {
  /** By machine that is owned, the attempts that ran when the last run of the server ended. */
  interrupted: ReadonlyMap<string, Attempt>
  /**
   * A machine starts. The attempt is on the disk when this resolves.
   *
   * @returns undefined if the machine has nothing to boot
   * @throws `NetimageError`: the machine must not be answered then
   */
  beginAttempt(machine: string, at: number, choice?: Choice): Promise<CurrentAttempt | undefined>
  /**
   * The machine asks for the first boot file or for the root of its attempt. This is in the database when it
   * resolves, so that what the machine boots is not taken back any more.
   *
   * @returns false if it was taken back before: then the machine must begin another attempt
   * @throws `NetimageError`: the machine must not be answered if it is to boot a trial
   */
  asks(machine: string, at: number): Promise<boolean>
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
  /** A machine that restarts itself says whether it would do so now. @throws `NetimageError` */
  setReadiness(machine: string, isReady: boolean, at: number): Promise<void>
  /**
   * Whether the machine may restart itself now. If so, it counts as one that goes down.
   *
   * @throws `NetimageError`: the machine must not be told that it may
   */
  letRestart(machine: string, at: number): Promise<boolean>
  /**
   * What the file of the site said of machines when it was applied last.
   *
   * @param onBroken is told about machines with broken rows, which are left out
   * @throws `NetimageError`
   */
  declarations(onBroken: (error: BrokenRow) => void): Declarations
  /**
   * The group of the machine, if its machines may not publish systems of their own.
   *
   * @throws `NetimageError`: the machine must not publish a system then
   */
  groupThatRefuses(machine: string): string | undefined
  /** The host key that the site made for the machine. @throws `NetimageError` */
  hostKeyOf(machine: string): HostKey | undefined
  /** What the machine was bound to last. It may still run. @throws `NetimageError` */
  currentAttempt(machine: string): CurrentAttempt | undefined
  /** Whether the last attempt of the machine may be running. Reads nothing from the disk. */
  mayRun(machine: string): boolean
  /**
   * The layer of the machine was put back, as a person wished. It is on the disk when this resolves.
   *
   * @param reason what was put back, and where the state from before is
   * @throws `NetimageError`
   */
  stateIsBack(machine: string, done: StateBack, reason: string): Promise<void>
  /**
   * Adds a row to the log about something that changes nothing in the site. An error is told, because the
   * machine goes on all the same.
   */
  note(noted: OfMachine): Promise<void>
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
  /**
   * Whether this process serves the machine. Other processes of the server may have the site open, and
   * serve other machines. Default: it serves all machines.
   */
  owns?: ((machine: string) => boolean) | undefined
  onTold: (told: Told) => void
  /**
   * Called at each tick for each machine that has settled, and is good once it accepts connections. The
   * caller tries this, and signs `answers`.
   */
  onPortsToTry?: (machine: string, toTry: PortsToTry) => void
  /** Called once for a row of failures. */
  onError: (error: NetimageError) => void
}

/** How long a change waits while another process writes. Milliseconds. */
const timeout = 500
/** How much of this time the server may do nothing else, for a sign that must be written now. Milliseconds. */
const blockMs = 10
/** The pause before it is tried again. Milliseconds. */
const againMs = 2
/**
 * If another process has counted this much more, it has counted time in which this process did not run.
 * If it has counted less than this, that time has passed since this process looked at its clock: a
 * change may have to wait. Milliseconds.
 */
const behindMs = 2 * timeout
/** If more time than this has passed between two calls, the clock of the computer was set. */
const longestMs = 60_000
/** Signs of life are written this often for each machine. Milliseconds of uptime. */
const aliveMs = 60_000
/**
 * The pauses between two tries to write what waits, if the database cannot be written. Milliseconds of
 * uptime.
 */
const [firstPauseMs, longestPauseMs] = [1000, 60_000]

/**
 * If the disk is full, the site opens with what is in its database, and nothing can be changed until
 * there is room. Only a site without a database cannot be opened then.
 *
 * @throws `NetimageError` `bad-state`, also for the file of a newer netimage; `in-use`; `disk-full`
 */
export function openSite(settings: SiteSettings): Site {
  const { state, policy = defaultPolicy, owns = () => true, onTold, onError } = settings
  const { onPortsToTry = () => {} } = settings
  const database = openSiteDatabase(state, timeout)
  let [uptime, last] = [database.read.uptime(), settings.at]
  const started: Now = { at: settings.at, uptime }
  const waiting = createWaitingSigns()
  /** Uptime of the last written sign of life. */
  const alive = new Map<string, number>()
  const broken = new Set<string>()
  const interrupted = new Map<string, Attempt>()
  const unseen = new Set<string>()
  for (const life of database.read.lives(tellBroken, owns)) {
    const attempt = runningAttempt(life)
    if (attempt) interrupted.set(life.machine, attempt)
    if (attempt || life.waitsFrom !== undefined) unseen.add(life.machine)
  }
  /** The machines whose last attempt may be running. */
  const running = new Set(interrupted.keys())
  let written = uptime
  let [isStarted, isClosed] = [false, false]
  /** Signs are to be written then. */
  let due: Disposable | undefined
  /** While the database cannot be written: when it is tried again, in uptime. */
  let failing: { pause: number; until: number } | undefined
  /** While another process writes: since when signs wait for this, on the clock of `performance`. */
  let busyFrom: number | undefined

  /** The rest of the site goes on. The error is told once, and again if the machine starts. */
  function tellBroken(error: BrokenRow): void {
    if (!broken.has(error.machine)) onError(error)
    broken.add(error.machine)
  }

  function clock(at: number): Now {
    uptime += Math.min(longestMs, Math.max(0, at - last))
    last = at
    return now()
  }

  /** `change` may have set the uptime since the clock was looked at. */
  function now(): Now {
    return { at: last, uptime }
  }

  /** Does the action in one transaction. @throws `NetimageError`: nothing is changed then */
  function change<T>(action: (writer: SiteWriter, told: Told[]) => T, waitMs?: number): T {
    const told: Told[] = []
    const result = database.change((writer) => {
      const counted = writer.uptime()
      if (counted - uptime > behindMs) uptime = counted
      if (!isStarted) start(writer)
      const result = action(writer, told)
      for (const each of told) writer.note(toldBy(each, last))
      writer.setUptime(uptime)
      return result
    }, waitMs)
    written = uptime
    isStarted = true
    failing = undefined
    busyFrom = undefined
    for (const each of told) onTold(each)
    return result
  }

  function noteIn(writer: SiteWriter, machine: string, who: Who, entry: Entry): void {
    writer.note({ at: last, machine, who, entry })
  }

  function start(writer: SiteWriter): void {
    const become = (life: Life) => unchanged(becomeUnseen(life, started))
    for (const machine of unseen) keepChange(writer, machine, [], become)
  }

  /**
   * As `change`, for a machine, without blocking others. Its signs that wait are written first. If the site
   * is closed meanwhile, this never resolves, because nobody waits for the machine any more.
   */
  async function changeOne<T>(
    machine: string,
    action: (writer: SiteWriter, told: Told[]) => T,
  ): Promise<T> {
    const attempt = (): T => {
      const result = change((writer, told) => {
        if (waiting.has(machine)) keepChange(writer, machine, told, (life) => waiting.applyTo(life))
        return action(writer, told)
      }, 0)
      waiting.written(machine)
      return result
    }
    for (const from = performance.now(); performance.now() - from < timeout;) {
      try {
        return attempt()
      } catch (error) {
        if (!isInUse(error)) throw error
      }
      await sleep(againMs)
      if (isClosed) return await new Promise<never>(() => {})
    }
    return attempt()
  }

  /**
   * Changes lives that nobody waits for, and writes their signs. Each life is read and written once. If
   * this fails, the signs wait, and it is tried again after a pause. A machine with a broken row loses
   * its signs.
   */
  function changeSoon(
    machines: Iterable<string>,
    action: (life: Life) => Changed = unchanged,
    waitMs = 0,
  ): void {
    if (failing && uptime < failing.until) return
    const from = performance.now()
    const all = [...machines]
    try {
      const errors = change(
        (writer, told) =>
          all.flatMap((machine) =>
            ifBroken(() => keepChange(writer, machine, told, (life) => withSigns(life, action))),
          ),
        waitMs,
      )
      for (const error of errors) {
        running.delete(error.machine)
        tellBroken(error)
      }
      for (const machine of all) waiting.written(machine)
    } catch (error) {
      if (!failing && isInUse(error)) {
        busyFrom ??= from
        if (performance.now() - busyFrom < timeout) {
          due ??= setTimeout(flush, againMs).unref()
          return
        }
      }
      if (!failing) onError(asNetimageError(error))
      const pause = failing ? Math.min(2 * failing.pause, longestPauseMs) : firstPauseMs
      failing = { pause, until: uptime + pause }
    }
  }

  function withSigns(life: Life, action: (life: Life) => Changed): Changed {
    const seen = waiting.applyTo(life)
    const changed = action(seen.life)
    return { life: changed.life, told: [...seen.told, ...changed.told] }
  }

  function flush(waitMs?: number): void {
    due?.[Symbol.dispose]()
    due = undefined
    changeSoon(waiting.machines(), unchanged, waitMs)
  }

  function tickAll(): void {
    const over = new Set<string>()
    const toTry = new Map<string, PortsToTry>()
    changeSoon(new Set([...waiting.machines(), ...running]), (life) => {
      const changed = tick(life, now(), policy)
      if (!runningAttempt(changed.life)) over.add(life.machine)
      const ports = portsToTryIn(changed.life, now(), policy)
      if (ports) toTry.set(life.machine, ports)
      return changed
    })
    if (!failing) for (const machine of over) running.delete(machine)
    for (const [machine, each] of toTry) onPortsToTry(machine, each)
  }

  try {
    change(() => {})
  } catch (error) {
    // Machines with a good generation boot on a full disk, and these may be needed to make room.
    if (!(error instanceof NetimageError && error.code === 'disk-full')) throw error
    changeSoon([])
  }

  return {
    interrupted,
    async beginAttempt(machine, at, choice) {
      alive.set(machine, clock(at).uptime)
      running.add(machine)
      const life = await changeOne(machine, (writer, told) => {
        const begun = begin(writer, machine, { now: now(), policy, ...choice })
        const { byDefault } = begun
        told.push(...begun.told)
        if (byDefault)
          noteIn(writer, machine, theServer, { kind: 'assigned', ...givenOf(byDefault) })
        return begun.life
      })
      await database.durable()
      return runningAttempt(life) && currentIn(life)
    },
    async asks(machine, at) {
      alive.set(machine, clock(at).uptime)
      return await changeOne(machine, (writer, told) => {
        if (isTakenBack(writer.of(machine))) return false
        keepChange(writer, machine, told, (life) => see(life, { kind: 'asks' }, now()))
        return true
      })
    },
    async assign(machine, candidate, at, by) {
      clock(at)
      const assigned = await changeOne(machine, (writer) => {
        const life = writer.of(machine)
        const assigned = assign(life, candidate, now(), by)
        if ('refused' in assigned) return assigned
        if (assigned.life === life) return assigned
        writer.keep(assigned.life)
        const [who, kind] =
          by === 'machine'
            ? ([theMachine, 'published'] as const)
            : ([theServer, 'assigned'] as const)
        const given = givenOf({ ...assigned, before: life.current })
        noteIn(writer, machine, who, { kind, ...given })
        return assigned
      })
      await database.durable()
      return assigned
    },
    async stateIsBack(machine, done, reason) {
      await changeOne(machine, (writer, told) => {
        keepChange(writer, machine, told, (life) => isBack(life, done, reason))
      })
      await database.durable()
    },
    async note(noted) {
      try {
        await changeOne(noted.machine, (writer) => writer.note(noted))
      } catch (error) {
        onError(asNetimageError(error))
      }
    },
    lifeOf: database.read.lifeOf,
    hostKeyOf: database.read.hostKeyOf,
    nameOf: (machine) => database.read.names().get(machine),
    async setReadiness(machine, isReady, at) {
      clock(at)
      await changeOne(machine, (writer) => {
        const told = noteReadiness(writer, machine, isReady, now())
        for (const each of told) writer.note(rolloutToldBy(each, last))
      })
    },
    async letRestart(machine, at) {
      clock(at)
      // All roll-outs are read only if one has asked this machine.
      if (database.read.restartRequestOf(machine)?.kind !== 'itself') return false
      return await changeOne(machine, (writer) => letRestart(writer, machine, now()))
    },
    declarations: database.read.declarations,
    groupThatRefuses(machine) {
      const rollouts = database.read.rollouts()
      const group = rollouts.groups.get(machine)
      if (group === undefined) return undefined
      return newestOf(rollouts, group)?.rebuild === 'refuse' ? group : undefined
    },
    currentAttempt: (machine) => currentIn(database.read.lifeOf(machine)),
    mayRun: (machine) => running.has(machine),
    sign(machine, sign, at) {
      const seen = clock(at)
      const before = alive.get(machine)
      if (sign.kind === 'alive' && before !== undefined && seen.uptime - before < aliveMs) return
      alive.set(machine, seen.uptime)
      waiting.add(machine, sign, seen)
      due ??= setImmediate(flush)
      if (isSaidOnce(sign)) flush(busyFrom === undefined ? blockMs : 0)
    },
    tick(at) {
      clock(at)
      const isIdle = running.size === 0 && waiting.machines().length === 0
      if (isStarted && isIdle && uptime - written < longestMs) return
      tickAll()
    },
    close(at) {
      clock(at)
      due?.[Symbol.dispose]()
      // This is the last try.
      failing = undefined
      changeSoon(waiting.machines(), unchanged, timeout)
      isClosed = true
      database.close()
    },
  }
}

const theServer: Who = { kind: 'server' }
const theMachine: Who = { kind: 'machine' }

/** Whether another process writes, so that nothing was changed. */
function isInUse(error: unknown): boolean {
  return error instanceof NetimageError && error.code === 'in-use'
}

/**
 * Whether a boot can become good by the sign, which the machine does not repeat. The sign is written
 * before the machine gets its answer, unless another process writes for too long: if the server is killed
 * before, the machine asks again.
 */
function isSaidOnce(sign: Sign): boolean {
  return sign.kind === 'bless' || (sign.kind === 'step' && sign.step === 'init')
}

/** Nothing is changed if a row is broken. */
function ifBroken(action: () => void): BrokenRow[] {
  try {
    action()
    return []
  } catch (error) {
    if (error instanceof BrokenRow) return [error]
    throw error
  }
}

function currentIn(life: Life): CurrentAttempt | undefined {
  const attempt = lastAttempt(life)
  const generation = generationOf(life, attempt?.generation)
  return attempt && generation ? { attempt, generation } : undefined
}
