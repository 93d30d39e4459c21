/** The HTTP server of the page. It only reads, and has no port in common with what machines are served. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import { asNetimageError, type NetimageError } from '../errors.ts'
import { createConnections, plainAddress, type ConnectionLimits } from '../protocols/connections.ts'
import { closingAnswer, understandBroken } from '../protocols/http/refusal.ts'
import { pathOfTarget } from '../protocols/http/target.ts'
import { listenError } from '../protocols/listen.ts'
import { refusal, sendAnswer, type Answer } from './answer.ts'
import { isOwnHost } from './host.ts'

export interface PageRequest {
  /** Percent-decoded, with the `/` at its start. */
  path: string
  query: URLSearchParams
  isHead: boolean
}

/** Sends the answer itself, as long as the client stays. */
export type Stream = (response: ServerResponse) => void

export interface PageServerSettings {
  /** An IP address or a name of this computer. */
  host: string
  /** 0: any free port. */
  port: number
  /** Further names of this server, in lower case. */
  names: ReadonlySet<string>
  answer: (request: PageRequest) => Promise<Answer | Stream>
  /** Called with errors that no client caused. */
  onError: (error: NetimageError) => void
}

export interface PageServer {
  address: string
  port: number
  close(): Promise<void>
}

const limits: ConnectionLimits = { connections: 128, connectionsPerAddress: 64 }

const requestLimits = {
  maxHeaderSize: 8192,
  headersTimeout: 10_000,
  requestTimeout: 20_000,
  keepAliveTimeout: 15_000,
  connectionsCheckingInterval: 2000,
}
/** Longer than the time between two signs of life of a stream. */
const idleMs = 60_000

/** The page needs nothing from elsewhere, and nothing elsewhere may show it. */
const policy = [
  "default-src 'none'",
  ...["script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"],
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
  // Text from machines cannot become markup.
  "require-trusted-types-for 'script'",
].join('; ')

const fields = {
  'Content-Security-Policy': policy,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
}

/** @throws `NetimageError` `cannot-listen` */
export async function startPageServer(settings: PageServerSettings): Promise<PageServer> {
  const { onError } = settings
  const connections = createConnections(limits)
  /** Connections whose last request has no whole answer yet. */
  const busy = new WeakSet<Socket>()
  const server = createServer(requestLimits, (request, response) => {
    const { socket } = request
    // No browser sends a second request before the answer to the first.
    if (busy.has(socket)) {
      socket.destroy()
      return
    }
    busy.add(socket)
    response.once('close', () => busy.delete(socket))
    connections.used(socket)
    for (const [name, value] of Object.entries(fields)) response.setHeader(name, value)
    respond(settings, request, response).catch((error: unknown) => {
      onError(asNetimageError(error))
      response.destroy()
    })
  })
  server.maxHeadersCount = 100
  server.setTimeout(idleMs)
  server.on('connection', (socket: Socket) =>
    connections.add(socket, plainAddress(socket.remoteAddress) ?? ''),
  )
  server.on('clientError', (error, socket) => {
    const broken = understandBroken(error)
    if (broken && socket.writable) socket.end(closingAnswer(broken.status))
    else socket.destroy()
  })
  const { address, port } = await listen(server, settings)
  // For example if no file descriptor is left: only the new connection is lost.
  server.on('error', (error) => onError(asNetimageError(error)))
  let closed: Promise<void> | undefined
  function close(): Promise<void> {
    const ended = new Promise<void>((resolve) => void server.close(() => resolve()))
    connections.destroy()
    return ended
  }
  return { address, port, close: () => (closed ??= close()) }
}

async function listen(
  server: Server,
  { host, port }: PageServerSettings,
): Promise<{ address: string; port: number }> {
  const listening = Promise.withResolvers<void>()
  const fail = (error: Error) =>
    listening.reject(listenError('the page (TCP)', { address: host, port }, error))
  server.once('error', fail)
  server.listen({ host, port, backlog: 64 }, listening.resolve)
  await listening.promise
  server.off('error', fail)
  const bound = server.address()
  return typeof bound === 'object' && bound ? bound : { address: host, port }
}

async function respond(
  { names, answer, onError }: PageServerSettings,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = '', url = '', headersDistinct, socket } = request
  const send = (one: Answer) => sendAnswer(request, response, one)
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD')
    send(refusal(405, 'bad-method', 'This server can only be read.', 'Use GET or HEAD.'))
    return
  }
  const { host = [] } = headersDistinct
  if (host.length !== 1 || !isOwnHost(host[0], socket.localAddress, names)) {
    send(refusal(403, 'bad-host', foreignHost, nameIt))
    return
  }
  const path = pathOfTarget(url)
  if (path === undefined) {
    send(refusal(400, 'bad-path', 'The request has no valid path.'))
    return
  }
  const query = new URLSearchParams(/\?([^#]*)/.exec(url)?.[1] ?? '')
  let found: Answer | Stream
  try {
    found = await answer({ path, query, isHead: method === 'HEAD' })
  } catch (error) {
    onError(asNetimageError(error))
    send(refusal(500, 'internal', 'The answer could not be made.', seeOutput))
    return
  }
  if (typeof found === 'function') found(response)
  else send(found)
}

const seeOutput = 'The output of netimage serve says why: this is a defect of netimage.'
const foreignHost = 'This server does not know itself by the name in the URL.'
const nameIt = 'Use its IP address or localhost, or start it with --page-name NAME.'
