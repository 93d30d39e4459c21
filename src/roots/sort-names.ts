/** Sorts the names of a directory, which may have very many. */
import type { Steps } from './steps.ts'

/** More names are sorted in several steps. */
const namesOfStep = 512

/** @param names in Latin-1 @returns in the order of their bytes; each name stands once in `names` */
export function* sortInSteps(names: string[]): Steps<string[]> {
  if (names.length <= namesOfStep) return names.sort()
  const middle = names.length >> 1
  const one = yield* sortInSteps(names.slice(0, middle))
  const other = yield* sortInSteps(names.slice(middle))
  const all: string[] = []
  let [first, second] = [0, 0]
  while (all.length < names.length) {
    const [left, right] = [one[first], other[second]]
    if (left !== undefined && (right === undefined || left < right)) {
      all.push(left)
      first++
    } else if (right !== undefined) {
      all.push(right)
      second++
    }
    if (all.length % namesOfStep === 0) yield
  }
  return all
}
