/** Formats amounts, times and lines of text for people. */

import { widthOf } from './width.ts'

export { formatBytes } from '../format-bytes.ts'

export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes} min ${whole % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** In local time: `2026-11-23 08:15:00`. @param milliseconds since 1970 */
export function formatTime(milliseconds: number): string {
  const time = new Date(milliseconds)
  return new Date(milliseconds - time.getTimezoneOffset() * 60_000)
    .toISOString()
    .slice(0, 19)
    .replace('T', ' ')
}

/** Breaks text into lines of at most `width` columns, with the indent. A longer word has its own line. */
export function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + widthOf(`${line} ${word}`) > width) {
      lines.push(indent + line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, indent + line]
}
