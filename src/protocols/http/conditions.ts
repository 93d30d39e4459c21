/** Conditional requests: the client has the file, or a part of it, already. [RFC 9110 §13] */
import type { IncomingHttpHeaders } from 'node:http'

/** The values that tell whether a copy of a file is current. */
export interface Validators {
  /** A strong entity tag, with its quotes. */
  tag: string
  /** Whole seconds, in milliseconds since 1970. Undefined: only the tag counts. */
  modified?: number
}

/** Follows the order of precedence. [RFC 9110 §13.2.2] */
export function evaluateConditions(
  headers: IncomingHttpHeaders,
  { tag, modified = Number.NaN }: Validators,
): 'send' | 'not-modified' | 'failed' {
  const ifMatch = headers['if-match']
  const unmodifiedSince = dateOf(headers['if-unmodified-since'])
  if (ifMatch !== undefined) {
    if (!names(ifMatch, tag, false)) return 'failed'
  } else if (unmodifiedSince !== undefined && modified > unmodifiedSince) return 'failed'

  const ifNoneMatch = headers['if-none-match']
  if (ifNoneMatch !== undefined) return names(ifNoneMatch, tag, true) ? 'not-modified' : 'send'
  const modifiedSince = dateOf(headers['if-modified-since'])
  return modifiedSince !== undefined && modified <= modifiedSince ? 'not-modified' : 'send'
}

/** Whether the file is still the one that the client has a part of. [RFC 9110 §13.1.5] */
export function rangeApplies(headers: IncomingHttpHeaders, { tag, modified }: Validators): boolean {
  const ifRange = headers['if-range']
  if (typeof ifRange !== 'string') return true
  return /^\s*(W\/)?"/.test(ifRange) ? ifRange.trim() === tag : dateOf(ifRange) === modified
}

function names(list: string, tag: string, isWeakEnough: boolean): boolean {
  if (list.trim() === '*') return true
  return list.split(',').some((text) => {
    const named = text.trim()
    return (isWeakEnough ? named.replace(/^W\//, '') : named) === tag
  })
}

function dateOf(header: string | string[] | undefined): number | undefined {
  const time = typeof header === 'string' ? Date.parse(header) : Number.NaN
  return Number.isNaN(time) ? undefined : time
}
