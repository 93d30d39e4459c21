/** How the file of a site names machines: a name, an address, or a pattern of these. */
import { isIPv4 } from 'node:net'

import { parseMac } from '../../mac.ts'
import { isMachineName } from '../machine-name.ts'

/** @returns the selector in lower case; undefined if no machine could ever match it */
export function parseSelector(text: string): string | undefined {
  const selector = text.toLowerCase()
  if (isPattern(selector)) return /^[a-z0-9:.*-]{1,63}$/.test(selector) ? selector : undefined
  return addressOf(selector) ?? (isMachineName(selector) ? selector : undefined)
}

export function isPattern(selector: string): boolean {
  return selector.includes('*')
}

/** @returns undefined if the selector is no address */
export function addressOf(selector: string): string | undefined {
  return parseMac(selector) ?? (isIPv4(selector) ? selector : undefined)
}

/** `*` stands for any number of characters. The time is limited by the two lengths, for any pattern. */
export function matchesPattern(pattern: string, text: string): boolean {
  const [first = '', ...parts] = pattern.split('*')
  const last = parts.pop()
  if (last === undefined) return pattern === text
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  const end = text.length - last.length
  let at = first.length
  for (const part of parts) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return at <= end
}
