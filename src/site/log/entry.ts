/** What the log of a site has: what people and machines did, and what the server decided. */
import * as v from 'valibot'

import type { Assigned } from '../life/choose.ts'
import type { Generation, Told } from '../life/life.ts'
import { declarationSchema } from '../declarations.ts'
import type { RolloutTold } from '../rollout/rollout.ts'

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

/** A person who ran a command. */
const personSchema = v.object({
  kind: v.literal('person'),
  /** The real user of the process. */
  uid: v.pipe(v.number(), v.safeInteger()),
  /** Undefined if the user has no name on this computer. */
  name: v.exactOptional(v.string()),
  /** What sudo says of the person who ran it. Whoever may run commands as this user can forge it. */
  sudo: v.exactOptional(v.object({ user: v.string(), uid: v.exactOptional(count) })),
})

export type Person = v.InferOutput<typeof personSchema>

export const whoSchema = v.variant('kind', [
  personSchema,
  v.object({ kind: v.literal('server') }),
  v.object({ kind: v.literal('machine') }),
])

export type Who = v.InferOutput<typeof whoSchema>

const toldKinds = [
  ...([
    'good',
    'bad',
    'taken back',
    'attempt failed',
    'attempt void',
    'alarm',
    'other system',
  ] as const),
  ...(['stays', 'default refused', 'state back', 'no snapshot'] as const),
] as const satisfies readonly Told['kind'][]

const result = v.picklist(['new', 'same', 'back'])
const ofRollout = { rollout: count, group: v.string() }
/** The generation that the machine was to boot before. */
const before = v.exactOptional(count)

export const entrySchema = v.variant('kind', [
  v.object({
    kind: v.picklist(toldKinds),
    generation: count,
    reason: v.exactOptional(v.string()),
    /** Only for the verdict of a person: what the machine boots next. */
    next: v.exactOptional(count),
  }),
  v.object({
    kind: v.picklist(['assigned', 'published']),
    ...{ generation: count, result, before },
    image: v.string(),
    imageName: v.exactOptional(v.string()),
    toplevel: v.string(),
  }),
  v.object({
    kind: v.literal('refused'),
    toplevel: v.exactOptional(v.string()),
    reason: v.string(),
  }),
  v.object({
    kind: v.literal('rolled back'),
    ...{ generation: count, before },
    /** The names of the snapshots that the files go to, and that they become. */
    state: v.exactOptional(v.object({ snapshot: v.string(), leftAs: v.string() })),
  }),
  v.object({
    kind: v.literal('named'),
    newName: v.string(),
    before: v.exactOptional(v.string()),
  }),
  v.object({
    kind: v.picklist(['added', 'repaired']),
    ...{ image: v.string(), imageName: v.string() },
  }),
  v.object({
    kind: v.literal('removed'),
    images: v.array(v.string()),
    /** How many further images were removed. */
    more: v.exactOptional(count),
  }),
  v.object({
    kind: v.literal('freed'),
    /** How many store paths were removed. */
    storePaths: count,
    /** Bytes of the disk. */
    freedBytes: count,
    /** Whether the file system can clone files. Then fewer bytes may be free. */
    mayShareBlocks: v.boolean(),
  }),
  v.object({ kind: v.literal('host key'), fingerprint: v.string() }),
  v.object({ kind: v.literal('declared'), declared: v.exactOptional(declarationSchema) }),
  v.object({ kind: v.literal('too many') }),
  v.object({
    kind: v.literal('rollout'),
    ...ofRollout,
    /** The end of a sentence that begins with the roll-out. */
    says: v.string(),
  }),
  v.object({
    kind: v.literal('begun'),
    ...ofRollout,
    image: v.string(),
    imageName: v.string(),
    /** The digest of the plan. */
    plan: v.string(),
    /** The roll-out that the group had before. */
    replaces: v.exactOptional(count),
  }),
  v.object({
    kind: v.picklist(['paused', 'resumed', 'aborted']),
    ...ofRollout,
    reason: v.exactOptional(v.string()),
  }),
  v.object({ kind: v.picklist(['held', 'released']) }),
  v.object({
    kind: v.literal('regrouped'),
    /** The group in which the machine was, and is now. */
    from: v.string(),
    to: v.exactOptional(v.string()),
  }),
])

export type Entry = v.InferOutput<typeof entrySchema>

/** The parts of the entries for something that a machine was given to boot. */
export function givenOf({ generation, result, before }: Given) {
  const { number, image, toplevel } = generation
  return { generation: number, result, image, toplevel, ...(before !== undefined && { before }) }
}

interface Given {
  generation: Generation
  result: Assigned['result']
  /** The number of the generation that the machine was to boot before. */
  before: number | undefined
}

export interface Noted {
  /** Milliseconds since 1970. */
  at: number
  /** Undefined: it is about the site. */
  machine?: string | undefined
  who: Who
  entry: Entry
}

export type OfMachine = Noted & { machine: string }

/** The log is for people: it has the reason, and not `why`. */
export function toldBy(told: Told, at: number): OfMachine {
  const { machine, why: _, ...entry } = told
  return { at, machine, who: { kind: 'server' }, entry }
}

export function rolloutToldBy({ machine, ...told }: RolloutTold, at: number): Noted {
  return { at, machine, who: { kind: 'server' }, entry: { kind: 'rollout', ...told } }
}
