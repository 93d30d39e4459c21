/** Times as people write them: `10m`, `90s`, `1h30m`. */

const units = { h: 3_600_000, m: 60_000, s: 1000 } as const

/** Longer than anything that somebody waits for, and short enough for all sums. */
const longestMs = 365 * 24 * units.h

/** @returns milliseconds; undefined if the text is no time, or one of more than a year */
export function parseDuration(text: string): number | undefined {
  const found = /^(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?$/.exec(text)
  if (!found || text === '') return undefined
  const [, hours = 0, minutes = 0, seconds = 0] = found
  const total = Number(hours) * units.h + Number(minutes) * units.m + Number(seconds) * units.s
  return total <= longestMs ? total : undefined
}

/** @param milliseconds a whole number of seconds */
export function formatDuration(milliseconds: number): string {
  let left = milliseconds
  let text = ''
  for (const [unit, size] of Object.entries(units)) {
    const count = Math.floor(left / size)
    if (count > 0) text += `${count}${unit}`
    left -= count * size
  }
  return text === '' ? '0s' : text
}
