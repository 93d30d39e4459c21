/** An answer of the page's server, and how it is sent. */
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

import type { NetimageError } from '../errors.ts'
import { printableJson } from '../printable.ts'
import { evaluateConditions } from '../protocols/http/conditions.ts'

export interface Answer {
  status: number
  /** The media type. */
  type: string
  body: string | Buffer
  /** A strong entity tag with its quotes. Undefined: nobody may keep the answer. */
  tag?: string
}

const json = 'application/json'

/** @param text JSON */
export function jsonAnswer(text: string): Answer {
  const body = Buffer.from(text)
  return { status: 200, type: json, body, tag: tagOf(body) }
}

export function dataAnswer(value: object): Answer {
  return jsonAnswer(`${printableJson(value)}\n`)
}

/** The codes that only the page has, and no command. docs/errors.md explains each one. */
export type RefusalCode =
  | 'bad-path'
  | 'bad-query'
  | 'bad-host'
  | 'not-found'
  | 'bad-method'
  | 'too-many-listeners'
  | 'internal'

/** @param hint what the person can do next */
export function refusal(status: number, code: RefusalCode, message: string, hint?: string): Answer {
  return errorAnswer(status, { code, message, hint })
}

/** The answer if something cannot be read now: an error as the commands tell it with `--json`. */
export function failure(status: number, error: NetimageError): Answer {
  return errorAnswer(status, error)
}

interface Told {
  code: string
  message: string
  hint: string | undefined
}

function errorAnswer(status: number, { code, message, hint }: Told): Answer {
  const error = { code, message, ...(hint !== undefined && { hint }) }
  return { status, type: json, body: `${printableJson({ error })}\n` }
}

/** An answer that is made anew each time, so that nobody may keep it. */
export function freshAnswer(body: string, type: string): Answer {
  return { status: 200, type, body }
}

export function tagOf(body: string | Buffer): string {
  return `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
}

export function sendAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  { status, type, body, tag }: Answer,
): void {
  // Names and times of machines must not stay on the disk of a shared computer's browser.
  response.setHeader('Cache-Control', tag === undefined ? 'no-store' : 'private, no-cache')
  if (status === 503) response.setHeader('Retry-After', '1')
  const condition =
    tag === undefined || status !== 200 ? 'send' : evaluateConditions(request.headers, { tag })
  if (tag !== undefined) response.setHeader('ETag', tag)
  if (condition !== 'send') {
    response.writeHead(condition === 'not-modified' ? 304 : 412).end()
    return
  }
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': length })
  // Node leaves the body out of the answer to HEAD.
  response.end(body)
}
