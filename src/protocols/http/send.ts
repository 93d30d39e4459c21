/** Short answers: a sentence for people, or data for programs. */
import type { ServerResponse } from 'node:http'

import { printableJson } from '../../printable.ts'

export function sendText(response: ServerResponse, status: number, sentence: string): void {
  // The server lacks something only at the moment.
  if (status === 503) response.setHeader('Retry-After', '1')
  const body = Buffer.from(`${sentence}\n`)
  send(response, status, 'text/plain; charset=utf-8', body)
}

export function sendJson(response: ServerResponse, value: object): void {
  response.setHeader('Cache-Control', 'no-store')
  send(response, 200, 'application/json', Buffer.from(`${printableJson(value)}\n`))
}

function send(response: ServerResponse, status: number, type: string, body: Buffer): void {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': body.length })
  // Node leaves the body out of the answer to HEAD.
  response.end(body)
}
