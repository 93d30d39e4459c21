/** The parts of a file that a request asks for. [RFC 9110 §14] */

export interface Range {
  first: number
  /** Inclusive. */
  last: number
}

/** Loaders ask for one range. A request for very many may be an attack. [RFC 9110 §17.15] */
const maxRanges = 16

/** @returns `whole` if there is no range, or if the header is invalid and must be ignored */
export function parseRanges(
  header: string | undefined,
  size: number,
): readonly Range[] | 'whole' | 'unsatisfiable' {
  const list = /^bytes=(.*)$/i.exec(header?.trim() ?? '')?.[1]?.split(',')
  if (!list || list.length > maxRanges || size === 0) return 'whole'
  const ranges: Range[] = []
  for (const text of list) {
    const [, first = '', last = ''] = /^\s*(\d*)-(\d*)\s*$/.exec(text) ?? []
    if (first === '' && last === '') return 'whole'
    const range = first === '' ? suffix(Number(last), size) : between(first, last, size)
    if (range.last < range.first) return 'whole'
    if (range.first < size) ranges.push({ ...range, last: Math.min(range.last, size - 1) })
  }
  if (ranges.length === 0) return 'unsatisfiable'
  return doOverlap(ranges) ? 'whole' : ranges
}

/** The last bytes. A suffix of length 0 is a range behind the end, so it is unsatisfiable. */
function suffix(length: number, size: number): Range {
  return length === 0
    ? { first: size, last: size }
    : { first: Math.max(0, size - length), last: size - 1 }
}

function between(first: string, last: string, size: number): Range {
  return {
    first: Number(first),
    last: last === '' ? Math.max(size - 1, Number(first)) : Number(last),
  }
}

function doOverlap(ranges: readonly Range[]): boolean {
  const sorted = ranges.toSorted((a, b) => a.first - b.first)
  return sorted.some(({ first }, index) => first <= (sorted[index - 1]?.last ?? -1))
}
