/** Requests that are refused before any file is looked for: what is said of them, and to whom. */
import { STATUS_CODES, type IncomingMessage } from 'node:http'

import { pathOfTarget } from './target.ts'

export interface Refusal {
  status: 400 | 405 | 408 | 413 | 417 | 431
  /** For the person who looks why a machine does not boot. */
  reason: string
}

/** @returns the path that is asked for */
export function understand({
  method = '',
  url = '',
  headers,
  httpVersion,
}: IncomingMessage): { path: string } | Refusal {
  if (method !== 'GET' && method !== 'HEAD') {
    return { status: 405, reason: `it asks with ${method}, and files are only read here` }
  }
  // [RFC 9112 §3.2]
  if (httpVersion === '1.1' && headers.host === undefined) {
    return { status: 400, reason: 'its request has no Host' }
  }
  const path = pathOfTarget(url)
  return path === undefined ? { status: 400, reason: 'it asks for what is no path' } : { path }
}

const statuses: Record<string, Refusal['status']> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}

/** What was received, as far as anybody can tell what it was to be. */
export interface Broken extends Refusal {
  file: string
}

const maxFile = 200

/** @param error of Node's parser @returns undefined if no request was broken: nobody is there */
export function understandBroken(error: Error): Broken | undefined {
  const code = 'code' in error ? String(error.code) : ''
  if (!code.startsWith('HPE_') && statuses[code] === undefined) return undefined
  const raw = 'rawPacket' in error && Buffer.isBuffer(error.rawPacket) ? error.rawPacket : undefined
  const [, target = ''] = /^[A-Z]+ (\S+)/.exec(raw?.toString('latin1', 0, 4096) ?? '') ?? []
  const file = target.slice(0, maxFile)
  const reason =
    /^[a-z0-9_.-]/i.test(target) && !/^https?:/i.test(target)
      ? `the path that it asks for does not begin with a slash: /${file}`
      : `its request is not HTTP: ${error.message}`
  return { status: statuses[code] ?? 400, file, reason }
}

/** A whole answer, for a connection that ends with it. */
export function closingAnswer(status: Refusal['status']): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`
}
