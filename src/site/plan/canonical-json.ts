/** The same data have the same text: the keys of objects are sorted. */
import { isPlainObject } from '../../plain-object.ts'

export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) =>
    isPlainObject(each)
      ? Object.fromEntries(
          Object.entries(each).toSorted(([one], [other]) => (one < other ? -1 : 1)),
        )
      : each,
  )
}
