/**
 * The messages of a push.
 *
 * ```
 * both       hello                         the first message of each side
 * sender     image                         then its manifest, as data
 * receiver   want                          which store paths it lacks, in the order in which it wants them
 * sender     path, and the NAR as data     for each of these
 * sender     file, and its data; or link   if the receiver lacks the image: for each regular file that the
 *                                          manifest lists, first those of the root tree
 * receiver   added
 *            … and so on with the next image
 * sender     end
 * ```
 *
 * Each side can say `failed` in place of any message or data, and that is its last message. The receiver
 * can say `told` at any time.
 */
import * as v from 'valibot'

import type { NetimageError } from '../../errors.ts'

/** Increased with each change that an older netimage would not understand. */
export const pushVersion = 1

/** The largest manifest, in bytes. */
export const longestManifest = 2 ** 26

const longestText = 4000
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const text = v.pipe(v.string(), v.maxLength(longestText))
const hash = v.pipe(v.string(), v.maxLength(100))
const path = v.pipe(v.string(), v.maxLength(20_000))
const part = v.picklist(['root', 'boot'])

/** Of any version, so that a version which differs is told as such. */
const hello = v.object({
  kind: v.literal('hello'),
  push: count,
  netimage: v.pipe(v.string(), v.maxLength(100)),
})

export const failedSchema = v.object({
  kind: v.literal('failed'),
  code: v.pipe(v.string(), v.maxLength(100)),
  message: text,
  hint: v.exactOptional(text),
})

const fromSender = v.variant('kind', [
  hello,
  v.object({
    kind: v.literal('image'),
    id: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
    manifestBytes: v.pipe(count, v.maxValue(longestManifest)),
  }),
  v.object({ kind: v.literal('path'), narHash: hash }),
  v.object({ kind: v.literal('file'), part, path }),
  /** `to` is a file of the same part that was sent before. */
  v.object({ kind: v.literal('link'), part, path, to: path }),
  v.object({ kind: v.literal('end') }),
])

const fromReceiver = v.variant('kind', [
  hello,
  v.object({ kind: v.literal('want'), isNew: v.boolean(), paths: v.array(hash) }),
  v.object({ kind: v.literal('added') }),
  v.object({ kind: v.literal('told'), text }),
])

export const messageSchemas = { fromSender, fromReceiver } as const

export type FromSender = v.InferOutput<typeof fromSender>
export type FromReceiver = v.InferOutput<typeof fromReceiver>
export type Failed = v.InferOutput<typeof failedSchema>

function cut(long: string): string {
  return long.length > longestText ? `${long.slice(0, longestText - 1)}…` : long
}

export function asTold(said: string): Extract<FromReceiver, { kind: 'told' }> {
  return { kind: 'told', text: cut(said) }
}

/** The failure for the other server. It is the person there who reads it. */
export function asFailed({ code, message, hint }: NetimageError): Failed {
  return { kind: 'failed', code, message: cut(message), ...(hint && { hint: cut(hint) }) }
}
