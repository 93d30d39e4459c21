/**
 * The life of one machine: its generations, its attempts to boot them, and which generation it boots
 * next. All of this is plain data. The functions of this folder take the data and an event with its
 * time, and return new data. They read no clock and no file.
 *
 * `current` is the generation that the machine boots next. It is in trial, or it is the last good
 * one. Only if the machine has no good generation, it can be a bad one: then there is nothing better.
 */
import type { BootStep } from '../../boots/step.ts'

/** `at` is the time of day, to show it. `uptime` is the time in which servers ran. Milliseconds. */
export interface Now {
  at: number
  /** A server adds to it while it runs. All limits are measured in it. */
  uptime: number
}

/** What a machine can be given to boot. */
export interface Candidate {
  /** The id of the image. For a published system: of the image below it. */
  image: string
  toplevel: string
  /**
   * Only for a system that the machine made and published: the name of the directory with its boot
   * files.
   */
  published?: string
  /**
   * Only for a published system: the ids of the further images whose store paths the machine saw when
   * it published the system. The system may refer to them.
   */
  keptImages?: readonly string[]
  /** The specialisations that the machine can boot in place of the system itself. */
  specialisations?: readonly string[]
  /** Whether the system notes that its boot is good, as a system with our module does. */
  blesses: boolean
}

export type Verdict = 'trial' | 'good' | 'bad'

export interface Generation extends Candidate {
  /** From 1 for each machine, never used again. */
  number: number
  madeAt: number
  verdict: Verdict
  /** The verdicts of a machine are numbered in the order in which they were given, from 1. */
  verdictNumber?: number
  /** Why the verdict is not `trial`, or why a trial ended without one. */
  reason?: string
  /** How many attempts of the trial have failed. */
  failures: number
  /** How long the failed attempts of the trial took. Milliseconds of uptime. */
  spent: number
  /** The attempt whose failure made the generation bad. */
  badBy?: number
  /** Whether a power cut has excused an attempt of this trial. */
  isExcused?: true
  /** The generation is bad only because the machine did not have its system any more: see gone.ts. */
  isGone?: true
  /**
   * The first attempt of the trial, and the generation that the machine booted before it. The first
   * generation of a machine has none.
   */
  begun?: { attempt: number; after: number }
  /** Only if a roll-out gave the machine this generation: what the roll-out's group asks of it. */
  policy?: Policy
}

export interface Attempt {
  /** From 1 for each machine, never used again. */
  number: number
  generation: number
  /**
   * The ids of the images whose store paths the machine sees, besides the image of the generation.
   * They stay the same until the machine starts again: it may use files of all of them.
   */
  keptImages: readonly string[]
  startedAt: number
  /**
   * The uptime since which its time counts, without the time in which the machine could not be seen or
   * waited for the server: its start, or the moment from which `hasAsked` is set.
   */
  from: number
  /** The machine has asked for a boot file or its root. Until then, the attempt is not judged. */
  hasAsked?: true
  outcome: 'running' | 'good' | 'failed' | 'void'
  reason?: string
  /** The furthest step. */
  step?: BootStep
  /** The last problem. */
  trouble?: string
  /** The boot id that the machine told. */
  bootId?: string
  /** The system that the machine told first, if it is not that of the generation. */
  otherSystem?: string
  /** The uptime at which the machine was up: blessed, or init was read. */
  upFrom?: number
  /** The machine has accepted connections at all ports of the policy of its generation. */
  hasAnswered?: true
  /** The uptime since which the machine is not seen, because the server ended meanwhile. */
  unseenFrom?: number
}

/** A person wants a machine to go back to a generation with its state from before another one. */
export interface StateBack {
  /** The generation. */
  to: number
  /** The state is that from before the first attempt to boot this generation. */
  before: number
  /** The last attempt when the person said so. The machine runs in it, so its layer must not change. */
  after: number
}

/** The start of an attempt of a machine that ran before. */
export interface Restart {
  uptime: number
  /** The attempt that failed by it. */
  failed?: number
}

export interface Life {
  machine: string
  current?: number
  lastGood?: number
  /** Whether a person or the machine chose a generation: then the site's default does not follow. */
  isChosen: boolean
  /** The image that the machine was last given as the site's default. */
  offered?: string
  /** The system that the machine's own profile names. Only a system that it published can boot. */
  profile?: string
  /** In uptime. */
  lastSign?: number
  /** The same moment. Milliseconds since 1970. */
  lastSignAt?: number
  restart?: Restart
  /**
   * The uptime since which the machine waits for the server, which prepares its root. The limits of its
   * attempts do not count this time.
   */
  waitsFrom?: number
  /** The attempt of a good generation that failed last, until an attempt is good. */
  alarm?: number
  /** Until it is done. */
  stateBack?: StateBack
  /** How many further good generations it keeps, as the last roll-out that reached it says. */
  keep?: number
  /** The highest numbers that it had when a person let the site forget it: they are not used again. */
  forgotten?: { generation: number; attempt: number }
  /** The oldest first. */
  generations: readonly Generation[]
  /** The oldest first. Old attempts are forgotten. */
  attempts: readonly Attempt[]
}

export interface Policy {
  /** How many attempts of a trial may fail until the trial is bad. */
  tries: number
  /** How long all attempts of a trial together may take until one is up. Milliseconds of uptime. */
  deadline: number
  /** How long a machine must be up until its generation is good. Milliseconds of uptime. */
  settle: number
  /** TCP ports at which the machine must then accept connections as well. */
  tcp?: readonly number[]
}

export const defaultPolicy: Policy = { tries: 3, deadline: 10 * 60_000, settle: 2 * 60_000 }

/** @param byDefault the policy of the server */
export function policyOf({ policy }: Generation, byDefault: Policy): Policy {
  return policy ?? byDefault
}

/** Why something failed or does not count, for programs. The reason beside it is a sentence for people. */
export const whys = ['too-late', 'no-answer', 'started-again', 'power-cut'] as const

export type Why = (typeof whys)[number]

/** What has happened, for the record and for people. */
export interface Told {
  machine: string
  kind:
    | 'good'
    | 'bad'
    | 'taken back'
    | 'attempt failed'
    | 'attempt void'
    | 'alarm'
    | 'other system'
    | 'stays'
    | 'default refused'
    | 'state back'
    | 'no snapshot'
  generation: number
  reason?: string
  /** Undefined: for another reason than these. */
  why?: Why
}

/** Why an attempt failed, or a generation is bad. */
export type Cause = Required<Pick<Told, 'reason'>> & Pick<Told, 'why'>

/** The life after an event, and what there is to tell. */
export interface Changed {
  life: Life
  told: readonly Told[]
}

export function unchanged(life: Life): Changed {
  return { life, told: [] }
}

/** Old attempts are forgotten, so that the data of a machine has a limit. */
const keptAttempts = 50

/** The machine gives a sign now. */
export function signNow({ uptime, at }: Now): Required<Pick<Life, 'lastSign' | 'lastSignAt'>> {
  return { lastSign: uptime, lastSignAt: at }
}

export function newLife(machine: string): Life {
  return { machine, isChosen: false, generations: [], attempts: [] }
}

export function generationOf(life: Life, number: number | undefined): Generation | undefined {
  return life.generations.find((generation) => generation.number === number)
}

/** The number of its next generation. */
export function nextGeneration({ generations, forgotten }: Life): number {
  return (generations.at(-1)?.number ?? forgotten?.generation ?? 0) + 1
}

/** The number of its next attempt. */
export function nextAttempt({ attempts, forgotten }: Life): number {
  return (attempts.at(-1)?.number ?? forgotten?.attempt ?? 0) + 1
}

export function lastAttempt(life: Life): Attempt | undefined {
  return life.attempts.at(-1)
}

/** Whether the machine is to boot another generation than in its last attempt. */
export function bootsOtherNext(life: Life): boolean {
  const last = lastAttempt(life)
  return last !== undefined && life.current !== last.generation
}

/**
 * Whether the machine has got nothing of its attempt so far, and is to boot another generation by now. It must
 * then begin another attempt before it gets anything: what was taken back is not tried.
 */
export function isTakenBack(life: Life): boolean {
  const attempt = runningAttempt(life)
  return attempt !== undefined && attempt.hasAsked === undefined && bootsOtherNext(life)
}

/**
 * Whether the machine got to the boot files or the root of the attempt. Otherwise the machine only
 * asked DHCP, and has not written to its layer.
 */
export function hasBooted({ hasAsked, outcome }: Attempt): boolean {
  return hasAsked === true || outcome === 'good' || outcome === 'failed'
}

export function runningAttempt(life: Life): Attempt | undefined {
  const last = lastAttempt(life)
  return last?.outcome === 'running' ? last : undefined
}

/** What is to be booted: an image or, without `image`, a system that the machine published. */
export interface Wanted {
  toplevel: string
  image?: string
}

export function wantedOf({ image, toplevel, published }: Omit<Candidate, 'blesses'>): Wanted {
  return published === undefined ? { toplevel, image } : { toplevel }
}

/** Whether the generation is what is wanted. The image of a system brings the system as well. */
export function isWanted(generation: Generation, { toplevel, image }: Wanted): boolean {
  if (image === undefined) return generation.toplevel === toplevel
  return generation.published === undefined && generation.image === image
}

/**
 * Whether a verdict on one holds for the other. Two images of one system differ in how their boot
 * files were made, or in their files outside the store: this may be what makes one of them bad. The
 * server makes the boot files of a published system in the way of an image with which the machine
 * runs: so only the system can be bad.
 */
export function isAlike(one: Wanted, other: Wanted): boolean {
  if (one.image !== undefined && other.image !== undefined) return one.image === other.image
  return one.toplevel === other.toplevel
}

export function withAttempt(life: Life, changed: Attempt): Life {
  const isKnown = life.attempts.some(({ number }) => number === changed.number)
  const attempts = isKnown
    ? life.attempts.map((each) => (each.number === changed.number ? changed : each))
    : [...life.attempts, changed].slice(-keptAttempts)
  return { ...life, attempts }
}
