/**
 * The width of text on a terminal. Some characters take two columns (東, 🚀), and others, such as
 * combining accents, take none.
 */
import { createRequire } from 'node:module'
import type stringWidth from 'string-width'

const isPrintableAscii = /^[ -~]*$/
const require = createRequire(import.meta.url)

export function widthOf(text: string): number {
  if (isPrintableAscii.test(text)) return text.length
  // Loaded only if it is needed: its tables take a fifth of the time in which the program starts.
  const library: { default: typeof stringWidth } = require('string-width')
  return library.default(text)
}

/** Adds spaces to the end. */
export function padTo(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)))
}

/** @returns the beginning of the text that fits into the width */
export function cutTo(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  let [cut, taken] = ['', 0]
  // Made only if it is needed: its tables take a tenth of the time in which the program starts.
  const graphemes = new Intl.Segmenter()
  for (const { segment } of graphemes.segment(text)) {
    taken += widthOf(segment)
    if (taken > width) break
    cut += segment
  }
  return cut
}
