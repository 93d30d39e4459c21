/** Finds the places of numbers that are in no order. */
import { sortInSteps } from './sort-in-steps.ts'
import type { Steps } from './steps.ts'

/** Numbers, and their places in the order of the numbers. */
export interface OrderedNumbers<T extends Float64Array | Uint32Array = Float64Array | Uint32Array> {
  numbers: T
  order: Uint32Array
}

const numbersOfStep = 64

export function* orderInSteps<T extends Float64Array | Uint32Array>(
  numbers: T,
): Steps<OrderedNumbers<T>> {
  if (yield* isSorted(numbers)) return { numbers, order: Uint32Array.from(numbers.keys()) }
  const places = [...numbers.keys()]
  const compare = (one: number, other: number) => (numbers[one] ?? 0) - (numbers[other] ?? 0)
  return { numbers, order: Uint32Array.from(yield* sortInSteps(places, compare)) }
}

function* isSorted(numbers: Float64Array | Uint32Array): Steps<boolean> {
  for (let at = 1; at < numbers.length; at++) {
    if ((numbers[at] ?? 0) <= (numbers[at - 1] ?? 0)) return false
    if (at % numbersOfStep === 0) yield
  }
  return true
}

/** @returns undefined if there is no such number */
export function placeOfNumber(
  { numbers, order }: OrderedNumbers,
  number: number,
): number | undefined {
  let from = 0
  for (let to = order.length; from < to;) {
    const middle = (from + to) >>> 1
    const place = order[middle] ?? 0
    const found = numbers[place] ?? 0
    if (found === number) return place
    if (found < number) from = middle + 1
    else to = middle
  }
  return undefined
}
