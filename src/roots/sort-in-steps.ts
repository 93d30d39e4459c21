/** Sorts very many values, such as the names of a directory. */
import type { Steps } from './steps.ts'

/** More values are sorted in several steps. */
const valuesOfStep = 512

/**
 * @param values each stands once in them
 * @param compare as for `Array.sort`. Default: strings are in the order of their UTF-16 code units, so
 *   strings in Latin-1 are in the order of their bytes
 */
export function* sortInSteps<T extends string | number>(
  values: T[],
  compare?: (one: T, other: T) => number,
): Steps<T[]> {
  if (values.length <= valuesOfStep) return values.sort(compare)
  const isBefore = (a: T, b: T) => (compare ? compare(a, b) < 0 : a < b)
  const middle = values.length >> 1
  const one = yield* sortInSteps(values.slice(0, middle), compare)
  const other = yield* sortInSteps(values.slice(middle), compare)
  const all: T[] = []
  let [first, second] = [0, 0]
  while (all.length < values.length) {
    const left = one[first]
    const right = other[second]
    if (left !== undefined && (right === undefined || isBefore(left, right))) {
      all.push(left)
      first++
    } else if (right !== undefined) {
      all.push(right)
      second++
    }
    if (all.length % valuesOfStep === 0) yield
  }
  return all
}
