// A binary cache in this process that can give any wrong answer that HTTP allows.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { waitUntil } from './waiting.ts'

export type CacheRequest = {
  /** Without the slash at the beginning: `nix-cache-info`. */
  name: string
  headers: IncomingMessage['headers']
  /** The number of earlier requests for this name. */
  before: number
}

export type Answer = {
  status: number
  headers?: Record<string, string>
  body?: Buffer | string | AsyncIterable<Buffer>
  /** Cut the connection after this many bytes of the body. */
  cutAfter?: number
}

/** Gets the answer of an honest cache, and returns the answer to send. */
export type Lie = (request: CacheRequest, honest: Answer) => Answer | Promise<Answer>

export type FakeCacheOptions = {
  lie?: Lie
  /** Whether the cache supports `Range`. */
  ranges?: boolean
  /**
   * Whether the client has saved the file up to `end`. A connection is cut only then: a client that has no
   * processor time may otherwise lose what has arrived. Default: it is cut at once.
   */
  hasSaved?: (name: string, end: number) => boolean
}

export type FakeCache = {
  url: string
  host: string
  requests: CacheRequest[]
  asked: (name: string) => CacheRequest[]
  close: () => Promise<void>
}

/** @param files the files by name; a function makes files that are too large for memory */
export async function startFakeCache(
  files: ReadonlyMap<string, Buffer | (() => AsyncIterable<Buffer>)>,
  { lie = (_, honest) => honest, ranges = true, hasSaved = () => true }: FakeCacheOptions = {},
): Promise<FakeCache> {
  const requests: CacheRequest[] = []
  const asked = new Map<string, number>()
  const sockets = new Set<Socket>()
  const closing = new AbortController()

  function honestly({ name, headers }: CacheRequest): Answer {
    const file = files.get(name)
    if (file === undefined) return { status: 404, body: 'not found' }
    if (typeof file === 'function') return { status: 200, body: file() }
    const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? []
    if (from === undefined || !ranges) {
      return { status: 200, headers: { 'content-length': `${file.length}` }, body: file }
    }
    const first = Number(from)
    if (first >= file.length) {
      return { status: 416, headers: { 'content-range': `bytes */${file.length}` } }
    }
    const range = `bytes ${first}-${file.length - 1}/${file.length}`
    return {
      status: 206,
      headers: { 'content-length': `${file.length - first}`, 'content-range': range },
      body: file.subarray(first),
    }
  }

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const name = decodeURIComponent((incoming.url ?? '/').slice(1))
    const before = asked.get(name) ?? 0
    asked.set(name, before + 1)
    const request = { name, headers: incoming.headers, before }
    requests.push(request)
    const { status, headers, body = '', cutAfter } = await lie(request, honestly(request))
    response.writeHead(status, headers)
    // Send the headers alone, so that the client sees the beginning of the answer.
    response.flushHeaders()
    let sent = 0
    // Listen once: a listener for each chunk would stay until the end.
    const closed = once(response, 'close').catch(() => undefined)
    for await (const chunk of chunksOf(body)) {
      if (closing.signal.aborted || response.destroyed) return
      const part = cutAfter === undefined ? chunk : chunk.subarray(0, cutAfter - sent)
      sent += part.length
      if (!response.write(part) && !response.destroyed) {
        await Promise.race([once(response, 'drain'), closed])
      }
      if (sent === cutAfter) {
        const end = firstByteOf(headers) + sent
        const isOver = () => response.destroyed || hasSaved(name, end)
        await waitUntil(`the client has saved ${end} bytes of ${name}`, isOver)
        break
      }
    }
    if (cutAfter === undefined) response.end()
    // The written bytes arrive first.
    else incoming.socket.destroySoon()
  }

  const server = createServer((incoming, response) => {
    answer(incoming, response).catch((error: unknown) => response.destroy(toError(error)))
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${portOf(server.address())}`
  return {
    url: `http://${host}`,
    host,
    requests,
    asked: (name) => requests.filter((request) => request.name === name),
    async close() {
      closing.abort()
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Of an answer: RFC 9110, section 14.4. */
function firstByteOf(headers: Answer['headers']): number {
  return Number(/^bytes (\d+)-/.exec(headers?.['content-range'] ?? '')?.[1] ?? 0)
}

/** @returns whether an unfinished download in the directory has so many bytes */
export function hasDownload(scratch: string, bytes: number): boolean {
  const downloads = readdirSync(scratch).filter((name) => name.startsWith('download-'))
  return downloads.some(
    (name) => statSync(join(scratch, name), { throwIfNoEntry: false })?.size === bytes,
  )
}

async function* chunksOf(body: NonNullable<Answer['body']>): AsyncGenerator<Buffer> {
  if (typeof body === 'string' || Buffer.isBuffer(body)) yield Buffer.from(body)
  else yield* body
}

function portOf(address: AddressInfo | string | null): number {
  if (typeof address === 'object' && address !== null) return address.port
  throw new Error('The server listens on no port.')
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
