/** Requests that are refused before a file is opened: the status, and the reason for the person. */
import { STATUS_CODES, type IncomingMessage } from 'node:http'

import { pathOfTarget } from './target.ts'

export interface Refusal {
  status: 400 | 405 | 408 | 413 | 417 | 431
  /** For the person who wants to know why a machine does not boot. */
  reason: string
}

/** @returns the path of the request, or a refusal */
export function understand({
  method = '',
  url = '',
  headers,
  httpVersion,
}: IncomingMessage): { path: string } | Refusal {
  if (method !== 'GET' && method !== 'HEAD') {
    return { status: 405, reason: `the method is ${method}, and files can only be read here` }
  }
  // [RFC 9112 §3.2]
  if (httpVersion === '1.1' && headers.host === undefined) {
    return { status: 400, reason: 'the request has no Host' }
  }
  const path = pathOfTarget(url)
  return path === undefined ? { status: 400, reason: 'the request has no valid path' } : { path }
}

const statuses: Record<string, Refusal['status']> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}

/** A request that Node's parser could not read. `file` is the path, as far as it was readable. */
export interface Broken extends Refusal {
  file: string
}

const maxFile = 200

/**
 * @param error from Node's parser
 * @returns undefined if no request was received, for example because the client closed the
 *   connection
 */
export function understandBroken(error: Error): Broken | undefined {
  const code = 'code' in error ? String(error.code) : ''
  if (!code.startsWith('HPE_') && statuses[code] === undefined) return undefined
  const raw = 'rawPacket' in error && Buffer.isBuffer(error.rawPacket) ? error.rawPacket : undefined
  const [, target = ''] = /^[A-Z]+ (\S+)/.exec(raw?.toString('latin1', 0, 4096) ?? '') ?? []
  const file = target.slice(0, maxFile)
  const reason =
    /^[a-z0-9_.-]/i.test(target) && !/^https?:/i.test(target)
      ? `the requested path does not begin with a slash: it must be /${file}`
      : `the request is not HTTP: ${error.message}`
  return { status: statuses[code] ?? 400, file, reason }
}

/** A complete answer, after which the connection ends. */
export function closingAnswer(status: Refusal['status']): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`
}
