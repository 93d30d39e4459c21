/**
 * The one gate of all boots. At the start of a boot it begins an attempt, which binds the machine to
 * one generation: loader, kernel, initrd, init and root of this boot are of this generation. The
 * attempt is on the disk before the first byte is answered. DHCP, TFTP, HTTP and MOUNT ask the gate.
 */
import { asNetimageError, NetimageError } from '../errors.ts'
import { isBeforeRoot, type Follower } from '../boots/follow.ts'
import type { BootPart } from '../boots/boot-parts.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Caller } from '../protocols/rpc/program.ts'
import { remember } from '../remember.ts'
import {
  generationOf,
  keptImagesOf,
  lastAttempt,
  type Candidate,
  type Life,
} from '../site/life/life.ts'
import type { Bound, Site } from '../site/site.ts'

/** What a machine boots now. `Opened` is what its generation gives to loaders and roots. */
export interface Boarding<Opened> {
  /** undefined: the machine has only asked DHCP so far, and the site does not know it. */
  bound: Bound | undefined
  generation: Opened
}

export interface GateSettings<Opened> {
  site: Pick<Site, 'beginAttempt' | 'boundOf' | 'lifeOf'>
  follower: Pick<Follower, 'bootOf' | 'boots'>
  partOf: (machine: string, file: string) => BootPart | undefined
  /** What a machine boots if nobody chose anything for it. */
  defaultFor: (machine: string, event: ServeEvent) => Candidate | undefined
  /** Opens what a machine is bound to. @throws `NetimageError` */
  open: (machine: string, bound: Bound) => Promise<Opened>
  openDefault: (candidate: Candidate) => Promise<Opened>
  /** Whether the machine has a connection of an earlier boot. */
  isConnected: (machine: string, besides: Caller | undefined) => boolean
  onError: (error: NetimageError) => void
  /** Called when a machine begins another attempt. */
  onBegin: (machine: string) => void
  /** Milliseconds since 1970. */
  now?: () => number
}

export interface Gate<Opened> {
  /**
   * To be called before the event is answered. If the event begins a boot, begins an attempt.
   *
   * @param caller the connection that mounts
   * @returns undefined if there is nothing that the machine can boot
   * @throws `NetimageError` if the attempt could not be written, or its generation not be opened
   */
  enter(machine: string, event: ServeEvent, caller?: Caller): Promise<Boarding<Opened> | undefined>
  /**
   * What the machine boots in its present attempt, or in its last one before this server started.
   *
   * @returns `busy` while it is being opened
   */
  now(machine: string): Boarding<Opened> | 'busy' | undefined
  /** Whether the machine has begun an attempt. */
  isBound(machine: string): boolean
}

interface Entry<Opened> {
  /** When the boot began, as the follower knows it; undefined: the follower does not know it. */
  boot: number | undefined
  /** Whether the boarding is of an attempt. */
  isBound: boolean
  boarding: Promise<Boarding<Opened> | undefined>
  ready?: Boarding<Opened>
}

export function createGate<Opened>(settings: GateSettings<Opened>): Gate<Opened> {
  const { site, follower, partOf, defaultFor, open, openDefault, isConnected } = settings
  const { now = Date.now } = settings
  const entries = new Map<string, Entry<Opened>>()

  function keep(
    machine: string,
    boot: number | undefined,
    boarding: Promise<Boarding<Opened> | undefined>,
    isBound = true,
  ): Entry<Opened> {
    const entry: Entry<Opened> = { boot, boarding, isBound }
    const forget = () => {
      if (entries.get(machine) === entry) entries.delete(machine)
    }
    boarding.then(
      (found) => {
        if (found) entry.ready = found
        else forget()
      },
      // The next request tries again, or tells the error again.
      forget,
    )
    remember(entries, machine, entry)
    return entry
  }

  /** A machine may run since before this server started. It goes on in the attempt that it had. */
  function entryOf(machine: string): Entry<Opened> | undefined {
    const known = entries.get(machine)
    if (known) return known
    const bound = site.boundOf(machine)
    if (!bound) return undefined
    const boot = follower.boots().find((each) => each.machine === machine)?.started
    return keep(machine, boot, board(machine, bound))
  }

  async function board(machine: string, bound: Bound): Promise<Boarding<Opened>> {
    return { bound, generation: await open(machine, bound) }
  }

  function begins(machine: string, event: ServeEvent, caller: Caller | undefined): boolean {
    if ('file' in event) return isBeforeRoot(event, partOf(machine, event.file))
    if (event.kind === 'dhcp') return isBeforeRoot(event, undefined)
    return event.kind === 'nfs' && event.step === 'mount' && !isConnected(machine, caller)
  }

  function begin(machine: string, event: ServeEvent, boot: number): Entry<Opened> {
    const byDefault = defaultFor(machine, event)
    // Hardware addresses are easily invented. So a machine that only asks DHCP is not remembered.
    if (event.kind === 'dhcp' && !site.boundOf(machine)) {
      return keep(machine, undefined, boardDefault(byDefault), false)
    }
    settings.onBegin(machine)
    return keep(machine, boot, boardNext(machine, byDefault))
  }

  async function boardDefault(
    candidate: Candidate | undefined,
  ): Promise<Boarding<Opened> | undefined> {
    return candidate && { bound: undefined, generation: await openDefault(candidate) }
  }

  async function boardNext(
    machine: string,
    byDefault: Candidate | undefined,
  ): Promise<Boarding<Opened> | undefined> {
    let bound: Bound | undefined
    try {
      bound = await site.beginAttempt(machine, now(), byDefault)
    } catch (error) {
      bound = withoutRecord(site.lifeOf(machine), error)
      settings.onError(asNetimageError(error))
    }
    return bound && (await board(machine, bound))
  }

  return {
    async enter(machine, event, caller) {
      let entry = entryOf(machine)
      const { started } = follower.bootOf(event, now())
      if (!entry || (entry.boot !== started && begins(machine, event, caller))) {
        entry = begin(machine, event, started)
      }
      return await entry.boarding
    },
    now(machine) {
      const entry = entryOf(machine)
      return entry && (entry.ready ?? 'busy')
    },
    isBound: (machine) => entries.get(machine)?.isBound ?? false,
  }
}

/**
 * If the disk is full, a machine still boots a good generation, so that it can remove files. A trial
 * must not boot without a record of its attempts: it would be tried again for ever.
 */
function withoutRecord(life: Life, error: unknown): Bound {
  const attempt = lastAttempt(life)
  const generation = generationOf(life, life.lastGood)
  const isFull = error instanceof NetimageError && error.code === 'disk-full'
  if (!isFull || !attempt || !generation) throw error
  const keptImages = keptImagesOf(life).filter((id) => id !== generation.image)
  return { attempt: { ...attempt, generation: generation.number, keptImages }, generation }
}

export function nothingToBoot(machine: string): NetimageError {
  return new NetimageError('path-not-found', `nothing is assigned to ${machine}`, {
    hint: `Assign an image: netimage site assign ${machine} IMAGE. Or serve one: netimage serve IMAGE.`,
  })
}
