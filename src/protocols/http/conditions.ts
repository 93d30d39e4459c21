/** Whether a client has a file already, or goes on with a part of it. [RFC 9110 §13] */
import type { IncomingHttpHeaders } from 'node:http'

/** What validates a copy of a file. */
export interface Validators {
  /** Strong, with its quotes. */
  tag: string
  /** Whole seconds, in milliseconds since 1970. */
  modified: number
}

/** In the order of precedence. [RFC 9110 §13.2.2] */
export function evaluateConditions(
  headers: IncomingHttpHeaders,
  { tag, modified }: Validators,
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

/** Whether a part fits to what the client has of the file. [RFC 9110 §13.1.5] */
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
