/** The parameters that each path of the page's server takes. */
import * as v from 'valibot'

/** The request has a parameter that is not known, or a wrong value. The message names it. */
export class BadQuery extends Error {}

function whole(least: number, most: number) {
  const says = `must be a whole number from ${least} to ${most}`
  return v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/, says),
    v.transform(Number),
    v.minValue(least, says),
    v.maxValue(most, says),
  )
}

/** Milliseconds since 1970, or the number of a row. */
const any = whole(0, 999_999_999_999_999)
const number = v.exactOptional(whole(1, 500))

export const targetsQuery = v.strictObject({ port: v.exactOptional(whole(1, 65_535)) })
export const bootsQuery = v.strictObject({ number })
export const logQuery = v.strictObject({
  number,
  machine: v.exactOptional(v.string()),
  since: v.exactOptional(any),
  after: v.exactOptional(any),
})

type Query = v.StrictObjectSchema<v.ObjectEntries, undefined>

/** @throws `BadQuery` */
export function readQuery<T extends Query>(schema: T, query: URLSearchParams): v.InferOutput<T> {
  const result = v.safeParse(schema, Object.fromEntries(query))
  if (result.success) return result.output
  const [issue] = result.issues
  const name = v.getDotPath(issue) ?? ''
  if (Object.hasOwn(schema.entries, name)) throw new BadQuery(`${name} ${issue.message}`)
  const known = Object.keys(schema.entries).join(', ')
  throw new BadQuery(`this path does not take ${name}, but only ${known}`)
}

/** @returns milliseconds since 1970; undefined if the text is no such time */
export function timeIn(text: string): number | undefined {
  const result = v.safeParse(any, text)
  return result.success ? result.output : undefined
}
