/**
 * What a shard says to the front. A hostile machine may have broken the shard, so the front takes a message
 * only if it has this form.
 */
import * as v from 'valibot'

import { bootSteps } from '../../boots/step.ts'
import { isErrorCode, NetimageError, type ErrorCode } from '../../errors.ts'
import { isProcedure } from '../../protocols/nfs/procedure-counts.ts'
import { whys } from '../../site/life/life.ts'

const number = v.pipe(v.number(), v.finite())
const text = v.exactOptional(v.string())
const count = v.exactOptional(number)
const listOf = <T>(item: v.GenericSchema<T>): v.GenericSchema<readonly T[]> => v.array(item)

const errorSchema = v.object({
  code: v.custom<ErrorCode>(isErrorCode),
  message: v.string(),
  hint: v.optional(v.string()),
  details: v.object({
    ...{
      path: text,
      referrer: text,
      file: text,
      store: text,
      url: text,
      status: count,
      field: text,
    },
    stores: v.exactOptional(listOf(v.string())),
    expected: v.exactOptional(v.union([v.string(), number])),
    actual: v.exactOptional(v.union([v.string(), number])),
  }),
})

const bootSchema = v.object({
  machine: v.string(),
  address: text,
  started: number,
  step: v.picklist(bootSteps),
  steps: v.record(v.picklist(bootSteps), number),
  lastSign: number,
  bytes: number,
  sending: count,
  asksToBoot: v.exactOptional(v.literal(true)),
  trouble: text,
  isFromBefore: v.exactOptional(v.literal(true)),
})

const clue = { mac: text, address: text, reason: text }
const eventSchema = v.variant('kind', [
  v.object({
    ...{ ...clue, kind: v.literal('dhcp'), proxy: v.boolean(), architecture: count },
    ...{ userClass: text, vendorClass: text, bootFile: text },
    step: v.picklist([
      ...(['discover', 'offer', 'request', 'acknowledge'] as const),
      ...(['refuse', 'decline', 'release'] as const),
    ]),
  }),
  v.object({
    ...{
      ...clue,
      kind: v.picklist(['tftp', 'http']),
      file: v.string(),
      bytes: number,
      size: count,
    },
    step: v.picklist(['begin', 'end', 'missing', 'refuse', 'fail']),
  }),
  v.object({
    ...{ ...clue, kind: v.literal('nfs'), path: v.string() },
    step: v.picklist(['mount', 'unmount', 'refuse']),
    transport: v.exactOptional(v.literal('udp')),
  }),
  v.object({ ...clue, kind: v.literal('root'), step: v.picklist(['init', 'registered']) }),
  v.object({ ...clue, kind: v.literal('server'), step: v.literal('restart'), reason: v.string() }),
])

const toldSchema = v.object({
  machine: v.string(),
  kind: v.picklist([
    ...(['good', 'bad', 'taken back', 'attempt failed', 'attempt void', 'alarm'] as const),
    ...(['other system', 'stays', 'default refused', 'state back', 'no snapshot'] as const),
  ]),
  generation: number,
  reason: text,
  why: v.exactOptional(v.picklist(whys)),
})

const imagesSchema = listOf(
  v.object({ name: v.string(), toplevel: v.string(), platform: v.string(), rootPath: v.string() }),
)

/** The answers to the questions of the front, by what they are about. */
export const answerSchemas = {
  /** The reply; undefined: there is none. */
  call: v.optional(v.instance(Buffer)),
  boot: v.union([
    v.object({
      client: v.picklist(['pxe', 'http', 'ipxe', 'raspberry-pi', 'u-boot']),
      server: v.string(),
      file: text,
    }),
    v.object({ reason: v.string() }),
  ]),
  /** An error, or the trees; undefined: the machine is not served. */
  trees: v.optional(v.union([errorSchema, v.object({ own: text, image: v.string() })])),
  images: imagesSchema,
}

const fromShardSchema = v.variant('kind', [
  /** It serves its machines, whose last boots are these. */
  v.object({ kind: v.literal('ready'), boots: listOf(bootSchema) }),
  /** It cannot serve its machines, and ends. */
  v.object({ kind: v.literal('failed'), error: errorSchema }),
  /** It is of this version of netimage, which is not that of the front. It has opened nothing, and ends. */
  v.object({ kind: v.literal('other-version'), version: v.string() }),
  v.object({ kind: v.literal('answer'), id: number, answer: v.unknown() }),
  /** An event of a machine, and the boot that it belongs to. */
  v.object({
    ...{ kind: v.literal('seen'), boot: bootSchema, event: eventSchema },
    ...{ at: number, mayForget: v.boolean() },
  }),
  /** A machine has done something that takes more than a forged address. */
  v.object({ kind: v.literal('comes'), machine: v.string() }),
  v.object({
    ...{ kind: v.picklist(['processor', 'serial']), machine: v.string(), fact: v.string() },
  }),
  v.object({ kind: v.literal('told'), told: toldSchema }),
  v.object({ kind: v.literal('error'), error: errorSchema }),
  /** Asks for the data of the whole server, for `/api/`. */
  v.object({ kind: v.literal('question'), id: number, about: v.picklist(['machines', 'images']) }),
  /** The operations of NFS since the last such message, by procedure. */
  v.object({
    kind: v.literal('operations'),
    counts: v.record(v.custom<string>(isProcedure), v.pipe(number, v.minValue(0))),
  }),
  v.object({ kind: v.literal('pong'), id: number }),
  /** It has the connection that was given to it last. */
  v.object({ kind: v.literal('taken') }),
  /** It has the next event of those that were sent to it. */
  v.object({ kind: v.literal('heard') }),
  /** The last message: all is closed. */
  v.object({ kind: v.literal('closed') }),
])

export type FromShard = v.InferInput<typeof fromShardSchema>

/** @throws an error if no shard says this */
export function parseFromShard(message: unknown): FromShard {
  return checked(fromShardSchema, message)
}

/** The value itself: people see the parts of an event in their order. @throws an error if it is another one */
export function checked<S extends v.GenericSchema>(schema: S, value: unknown): v.InferInput<S> {
  v.assert(schema, value)
  return value
}

/** A `NetimageError` without its class. The class is lost between processes. */
export type PlainError = v.InferInput<typeof errorSchema>

export function toPlain({ code, message, hint, details }: NetimageError): PlainError {
  return { code, message, hint, details }
}

export function fromPlain({ code, message, hint, details }: PlainError): NetimageError {
  return new NetimageError(code, message, { hint, details })
}
