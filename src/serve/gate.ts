/**
 * The one gate of all boots. At the start of a boot it begins an attempt, which binds the machine to
 * one generation: loader, kernel, initrd, init and root of this boot are of this generation. The
 * attempt is on the disk before the first byte is answered. Only a machine that may be invented gets
 * answers without an attempt (`mayBeInvented`). DHCP, TFTP, HTTP and MOUNT ask the gate.
 */
import { asNetimageError, errnoOf, NetimageError } from '../errors.ts'
import { isBeforeRoot, type Boot, type Follower } from '../boots/follow.ts'
import type { BootPart } from '../boots/boot-parts.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Caller } from '../protocols/rpc/program.ts'
import { remember } from '../remember.ts'
import { unrecordedAfter } from '../roots/boot-id.ts'
import {
  bootsOtherNext,
  generationOf,
  lastAttempt,
  type Candidate,
  type Life,
} from '../site/life/life.ts'
import type { CurrentAttempt, Site } from '../site/site.ts'
import type { FindGone } from './gone-systems.ts'
import type { OpenSystem } from './open-systems.ts'

/** What a machine boots now. */
export interface BootedSystem {
  /** The number of the attempt. Undefined: the machine may have been invented, so it has none. */
  attempt: number | undefined
  /** The identifier of a boot after this attempt that could not be recorded. */
  unrecorded?: string
  system: OpenSystem
}

export interface GateSettings {
  site: Pick<Site, 'asks' | 'beginAttempt' | 'currentAttempt' | 'lifeOf' | 'mayRun' | 'sign'>
  follower: Pick<Follower, 'bootOf' | 'boots' | 'isStart'>
  partOf: (machine: string, file: string) => BootPart | undefined
  /** What a machine boots if nobody chose anything for it. */
  defaultFor: (machine: string, event: ServeEvent) => Candidate | undefined
  findGone: FindGone
  /** Opens what a machine boots in its attempt. @throws `NetimageError` */
  open: (machine: string, current: CurrentAttempt) => Promise<OpenSystem>
  openDefault: (candidate: Candidate) => Promise<OpenSystem>
  /** Whether a person has named the machine, so that nobody else has invented it. */
  isNamed: (machine: string) => boolean
  /** Whether the machine has a connection of an earlier boot. */
  isConnected: (machine: string, besides: Caller | undefined) => boolean
  onError: (error: NetimageError) => void
  /** Whether the machine has used its root in the last seconds. */
  isActive: (machine: string) => boolean
  /** Called when a machine begins another attempt. */
  onBegin: (machine: string) => void
  /** Milliseconds since 1970. */
  now?: () => number
}

export interface Gate {
  /**
   * To be called before the event is answered. If the event begins a boot, begins an attempt.
   *
   * @param caller the connection that mounts
   * @returns undefined if there is nothing that the machine can boot
   * @throws `NetimageError` if the attempt could not be written, or its generation not be opened
   */
  enter(machine: string, event: ServeEvent, caller?: Caller): Promise<BootedSystem | undefined>
  /**
   * What the machine boots in its present attempt, or in its last one before this server started.
   *
   * @returns `busy` while it is being opened
   */
  now(machine: string): BootedSystem | 'busy' | undefined
  /**
   * To be called when a machine has shown that nobody invented it. If it gets a boot file and has no
   * attempt yet, begins an attempt.
   */
  comes(boot: Pick<Boot, 'machine' | 'started'>, event: ServeEvent): void
  /** To be called if what a machine boots has no boot file for its firmware. */
  lacksFile(machine: string): void
  /** Whether the machine has begun an attempt. */
  hasAttempt(machine: string): boolean
  /** The systems that machines boot or run now. */
  systems(): OpenSystem[]
}

interface Entry {
  /** When the boot began, as the follower knows it; undefined: the follower does not know it. */
  boot: number | undefined
  /** The attempt could not be written, or its generation could not be opened. */
  hasFailed?: true
  /** The machine has asked for a boot file or its root in its attempt. */
  hasAsked?: true
  /** While this is written. */
  asking?: Promise<boolean>
  /** An earlier run of the server began the attempt. */
  isFromBefore?: true
  /** The attempt is written, but the server lacks something to open its generation. */
  unopened?: CurrentAttempt
  booted: Promise<BootedSystem | undefined>
  ready?: BootedSystem
}

/** An attempt that could not be opened after a restart of the server is tried again after this time. */
const retryMs = 1000

export function createGate(settings: GateSettings): Gate {
  const { site, follower, partOf, defaultFor, open, openDefault, isActive } = settings
  const { isNamed, isConnected, now = Date.now } = settings
  const entries = new Map<string, Entry>()

  function keep(
    machine: string,
    boot: number | undefined,
    booted: Promise<BootedSystem | undefined>,
  ): Entry {
    const entry: Entry = { boot, booted }
    booted.then(
      (found) => {
        if (found) entry.ready = found
        else if (entries.get(machine) === entry) entries.delete(machine)
      },
      // The entry stays: otherwise the machine would go on in its attempt before.
      (error: unknown) => {
        entry.hasFailed = true
        if (error instanceof UnopenedAttempt) entry.unopened = error.current
        // The next request that can begin a boot begins another attempt.
        else entry.boot = undefined
      },
    )
    remember(entries, machine, entry, undefined, (each) => !site.mayRun(each))
    return entry
  }

  /** A machine may run since before this server started. It goes on in the attempt that it had. */
  function entryOf(machine: string): Entry | undefined {
    const known = entries.get(machine)
    if (known) return known
    const current = site.currentAttempt(machine)
    if (!current) return undefined
    const boot = follower.boots().find((each) => each.machine === machine)?.started
    const booted = openCurrent(machine, current).catch((error: unknown) => {
      const known = asNetimageError(error)
      throw isOfServer(known) ? new UnopenedAttempt(known, current) : known
    })
    const entry = keep(machine, boot, booted)
    entry.isFromBefore = true
    if (current.attempt.hasAsked) entry.hasAsked = true
    booted.catch((error: unknown) => {
      settings.onError(asNetimageError(error))
      setTimeout(() => {
        if (entries.get(machine) === entry) entries.delete(machine)
      }, retryMs).unref()
    })
    return entry
  }

  /** `unknown`: the row of the machine is broken. It may run, so it must wait and not be refused. */
  function tryEntryOf(machine: string): Entry | 'unknown' | undefined {
    try {
      return entryOf(machine)
    } catch (error) {
      settings.onError(asNetimageError(error))
      return 'unknown'
    }
  }

  async function openCurrent(machine: string, current: CurrentAttempt): Promise<BootedSystem> {
    return { attempt: current.attempt.number, system: await open(machine, current) }
  }

  function begins(machine: string, event: ServeEvent, caller: Caller | undefined): boolean {
    if (event.kind === 'dhcp') return isBeforeRoot(event, undefined)
    if ('file' in event) {
      // A program of a running machine may fetch a boot file.
      return isBeforeRoot(event, partOf(machine, event.file)) && !isActive(machine)
    }
    return event.kind === 'nfs' && event.step === 'mount' && !isConnected(machine, caller)
  }

  /**
   * Whether the machine is to begin another attempt with this event. The follower sees no new boot if
   * the machine comes no further than to its loader. Then the attempt fails by its deadline, and the
   * next start of the machine is another attempt. Until then, the machine may have a kernel of the attempt
   * that failed, and gets the initrd and the root of the same generation.
   */
  function isNext(
    machine: string,
    entry: Entry,
    event: ServeEvent,
    boot: Boot,
    caller: Caller | undefined,
  ): boolean {
    const isOther = entry.boot !== boot.started || isOutdated(machine, entry, event)
    if (!isOther && !(follower.isStart(event, boot) && hasFailed(machine))) return false
    return begins(machine, event, caller)
  }

  /**
   * A machine that only asked DHCP may have booted from its own disk, and starts again much later.
   * Meanwhile something else may have been chosen for it.
   */
  function isOutdated(
    machine: string,
    { hasAsked, isFromBefore }: Entry,
    event: ServeEvent,
  ): boolean {
    if (event.kind !== 'dhcp' || hasAsked) return false
    const life = site.lifeOf(machine)
    const last = lastAttempt(life)
    if (!last || last.hasAsked) return false
    return isFromBefore === true || bootsOtherNext(life)
  }

  function asks(machine: string): void {
    const entry = entries.get(machine)
    if (!entry || entry.hasAsked) return
    entry.hasAsked = true
    site.sign(machine, { kind: 'asks' }, now())
  }

  /** @returns false if something else was chosen for the machine before it got anything of its attempt */
  async function mayGoOn(
    machine: string,
    entry: Entry,
    { attempt, unrecorded }: BootedSystem,
  ): Promise<boolean> {
    if (attempt === undefined || entry.hasAsked) return true
    if (unrecorded !== undefined) {
      asks(machine)
      return true
    }
    entry.asking ??= askFirst(machine).finally(() => delete entry.asking)
    const isSame = await entry.asking
    if (isSame) entry.hasAsked = true
    return isSame
  }

  /** A trial must not boot without a record, but a machine boots a good generation also on a full disk. */
  async function askFirst(machine: string): Promise<boolean> {
    try {
      return await site.asks(machine, now())
    } catch (error) {
      const life = site.lifeOf(machine)
      const generation = generationOf(life, lastAttempt(life)?.generation)
      if (generation?.verdict !== 'good') throw error
      settings.onError(asNetimageError(error))
      site.sign(machine, { kind: 'asks' }, now())
      return true
    }
  }

  /** Looks into the database only if the attempt has ended, because each request asks this. */
  function hasFailed(machine: string): boolean {
    return !site.mayRun(machine) && lastAttempt(site.lifeOf(machine))?.outcome === 'failed'
  }

  function begin(machine: string, event: ServeEvent, boot: number): Entry {
    settings.onBegin(machine)
    return keep(machine, boot, beginAttempt(machine, defaultFor(machine, event)))
  }

  /**
   * Addresses are easily invented in DHCP, in the first packet of TFTP, and in a mount by UDP. And not
   * only machines that boot ask HTTP: browsers and scanners do as well. So a machine that has done no
   * more gets the default and is not remembered, until it asks HTTP for a boot file, or has received a
   * block of one (`comes`). This does not hold if a person has given the machine something to boot or,
   * except for DHCP, has named the machine.
   */
  function mayBeInvented(machine: string, event: ServeEvent): boolean {
    const isDatagram = event.kind === 'tftp' || (event.kind === 'nfs' && event.transport === 'udp')
    const isUnsure = isDatagram || event.kind === 'http'
    const isForged = event.kind === 'dhcp' || (isUnsure && !isNamed(machine))
    return isForged && site.lifeOf(machine).current === undefined
  }

  async function bootsByDefault(
    machine: string,
    event: ServeEvent,
  ): Promise<BootedSystem | undefined> {
    const candidate = defaultFor(machine, event)
    return candidate && { attempt: undefined, system: await openDefault(candidate) }
  }

  async function beginAttempt(
    machine: string,
    byDefault: Candidate | undefined,
  ): Promise<BootedSystem | undefined> {
    const gone = await settings.findGone(site.lifeOf(machine))
    let current: CurrentAttempt | undefined
    try {
      current = await site.beginAttempt(machine, now(), { byDefault, gone })
    } catch (error) {
      const last = withoutRecord(site.lifeOf(machine), gone, error)
      settings.onError(asNetimageError(error))
      const unrecorded = unrecordedAfter(String(last.attempt.number))
      return { ...(await openCurrent(machine, last)), unrecorded }
    }
    return current && (await openBegun(machine, current))
  }

  /**
   * If the server lacks something, the same attempt is opened later, so that a trial does not fail at
   * once. But the time of the attempt counts (`enter`).
   */
  async function openBegun(machine: string, current: CurrentAttempt): Promise<BootedSystem> {
    try {
      return await openCurrent(machine, current)
    } catch (error) {
      const known = asNetimageError(error)
      site.sign(machine, { kind: 'trouble', trouble: known.message }, now())
      if (isOfServer(known)) throw new UnopenedAttempt(known, current)
      // So the attempt counts for the verdict.
      site.sign(machine, { kind: 'asks' }, now())
      throw known
    }
  }

  /** Opens an attempt again from which nothing was answered, unless something else is chosen now. */
  function goOn(
    machine: string,
    { boot, unopened }: Entry & { unopened: CurrentAttempt },
    event: ServeEvent,
    started: number,
    caller: Caller | undefined,
  ): Entry {
    if (bootsOtherNext(site.lifeOf(machine)) && begins(machine, event, caller))
      return begin(machine, event, started)
    return keep(machine, boot, openBegun(machine, unopened))
  }

  return {
    async enter(machine, event, caller) {
      let entry = entryOf(machine)
      if (entry && !entry.ready && !entry.hasFailed) {
        // Which files are boot files is known only when the generation is open.
        await entry.booted.catch(() => {})
        entry = entries.get(machine)
      }
      if (!entry && mayBeInvented(machine, event)) {
        const booted = await bootsByDefault(machine, event)
        const isBootFile = event.kind === 'http' && booted?.system.partOf(event.file)
        if (!isBootFile) return booted
        // Another request of the machine may have begun the attempt meanwhile.
        entry = entries.get(machine)
      }
      const boot = follower.bootOf(event, now())
      const { started } = boot
      if (!entry || isNext(machine, entry, event, boot, caller)) {
        entry = begin(machine, event, started)
      } else if (entry.isFromBefore && entry.unopened) {
        // The machine may have a kernel of this attempt already.
        entries.delete(machine)
        entry = entryOf(machine) ?? entry
      } else if (entry.unopened) {
        entry = goOn(machine, { ...entry, unopened: entry.unopened }, event, started, caller)
      } else if ('file' in event && entry.boot !== started && isActive(machine)) {
        // Its next requests belong to the attempt that goes on.
        entry.boot = started
      }
      try {
        for (;;) {
          // Without a pause if it is open: a mount asks `now` next.
          const booted = entry.ready ?? (await entry.booted)
          if (!booted || event.kind === 'dhcp') return booted
          if (await mayGoOn(machine, entry, booted)) return booted
          // Another request of the machine may have begun the attempt meanwhile.
          const newest = entries.get(machine)
          entry = newest && newest !== entry ? newest : begin(machine, event, started)
        }
      } catch (error) {
        // Otherwise the machine would stay down for ever without a verdict or an alarm.
        const isAsking = 'file' in event || begins(machine, event, caller)
        if (error instanceof UnopenedAttempt && isAsking) asks(machine)
        throw error
      }
    },
    now(machine) {
      const entry = tryEntryOf(machine)
      if (entry === 'unknown') return 'busy'
      if (entry?.asking) return 'busy'
      return entry && (entry.ready ?? 'busy')
    },
    comes({ machine, started }, event) {
      if (!('file' in event) || tryEntryOf(machine)) return
      begin(machine, event, started).booted.catch((error: unknown) => {
        settings.onError(asNetimageError(error))
      })
    },
    lacksFile: asks,
    hasAttempt: (machine) => entries.has(machine) || site.mayRun(machine),
    systems: () => [...entries.values()].flatMap(({ ready }) => (ready ? [ready.system] : [])),
  }
}

class UnopenedAttempt extends NetimageError {
  readonly current: CurrentAttempt

  constructor({ code, message, hint, details, cause }: NetimageError, current: CurrentAttempt) {
    super(code, message, { hint, details, cause })
    this.current = current
  }
}

/** Whether this is no fault of the generation: the server has too few descriptors, or a disk fails. */
function isOfServer({ code, cause }: NetimageError): boolean {
  const errno = errnoOf(cause)
  if (errno !== undefined) return errno !== 'ENOENT' && errno !== 'ENOTDIR'
  return code === 'in-use' || code === 'disk-full' || code === 'file-system'
}

/**
 * If the disk is full, a machine still boots a good generation, so that it can remove files. A trial
 * must not boot without a record of its attempts: it would be tried again for ever.
 */
function withoutRecord(life: Life, gone: ReadonlySet<number>, error: unknown): CurrentAttempt {
  const attempt = lastAttempt(life)
  const generation = generationOf(life, life.lastGood)
  const isFull = error instanceof NetimageError && error.code === 'disk-full'
  // The record of the last attempt stands for this one, so it must be of the same generation.
  if (!isFull || !generation || attempt?.generation !== generation.number) throw error
  if (gone.has(generation.number)) throw error
  return { attempt, generation }
}

export function nothingToBoot(machine: string): NetimageError {
  return new NetimageError('path-not-found', `nothing is assigned to ${machine}`, {
    hint: `Assign an image: netimage site assign ${machine} IMAGE. Or serve one: netimage serve IMAGE.`,
  })
}
