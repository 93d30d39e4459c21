/** The HTTP server: boot trees, and data for programs. Clients can only read. [RFC 9110, 9112] */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import { messageOf, type NetimageError } from '../../errors.ts'
import { openBootFile, toldOf, type NoBootFile, type TreesOf } from '../boot-files.ts'
import {
  createConnections,
  everyone,
  plainAddress,
  type ClientAt,
  type ConnectionLimits,
  type Connections,
  type IsKnown,
} from '../connections.ts'
import { defect } from '../defect.ts'
import type { FileEvent, Report } from '../event.ts'
import type { Listener } from '../listen.ts'
import type { Hears } from '../on-interface.ts'
import type { SharedFile } from '../shared-files.ts'
import { listenTcp, type TcpService } from '../tcp-listener.ts'
import { beginInTurn } from '../turns.ts'
import { answerFor } from './answer.ts'
import { copyRange, sendBody, type SendRange } from './body.ts'
import { answerData, type Knowledge } from './knowledge.ts'
import { createKernelRanges } from './kernel-ranges.ts'
import { closingAnswer, understand, understandBroken } from './refusal.ts'
import { sendText } from './send.ts'

export interface HttpLimits extends ConnectionLimits {
  /** A connection is closed after this time without any data. */
  idleSeconds: number
  /** A connection is closed if the header of a request needs longer. Default: 10 */
  headerSeconds?: number
}

export interface HttpServiceOptions {
  treesOf: TreesOf
  /** Data that are served below `/api/`. Default: `/api/` has no meaning. */
  knowledge?: Knowledge
  /** Sends parts of files. Default: by the addon if there is one. */
  sendRange?: SendRange
  report: Report
  /** Called with errors that no machine caused: a failing disk, a defect of netimage. */
  onError: (error: NetimageError) => void
  /** Default: requests of all clients are answered. */
  hears?: Hears
  /** The machine that has an address. Default: each address is a served machine of its own. */
  clientAt?: ClientAt
  /** Default: no machine. */
  isKnown?: IsKnown
  limits?: HttpLimits
}

export interface HttpServerOptions extends HttpServiceOptions {
  /** The IPv4 or IPv6 address to listen on. */
  address: string
  /** 0: any free port. */
  port: number
  signal?: AbortSignal
}

/** Loaders pause while they write to slow flash or draw on slow screens. */
const defaultLimits: HttpLimits = { connections: 512, connectionsPerAddress: 64, idleSeconds: 60 }

/** How many requests of a connection may wait for their answers. Loaders send one after the other. */
const maxPipelined = 32

const requestLimits = {
  maxHeaderSize: 8192,
  requestTimeout: 20_000,
  keepAliveTimeout: 15_000,
  // `understand` checks the header, so that a refusal is reported.
  requireHostHeader: false,
}

/** @throws `NetimageError` `cannot-listen` */
export async function startHttpServer(options: HttpServerOptions): Promise<Listener> {
  const { address, port, onError, signal } = options
  signal?.throwIfAborted()
  const listener = await listenTcp(
    {
      ...{ name: 'HTTP (TCP)', address, port },
      onError: (error) => onError(defect('HTTP', error)),
    },
    createHttpService(options),
  )
  signal?.addEventListener('abort', () => void listener.close(), { once: true })
  return listener
}

/** Serves connections that were accepted elsewhere. */
export function createHttpService(options: HttpServiceOptions): TcpService {
  const { onError, hears, limits = defaultLimits } = options
  const connections = createConnections(limits, options)
  /** The number of requests of a connection whose answers have not ended. */
  const unanswered = new WeakMap<Duplex, number>()
  const isAnswering = (socket: Duplex) => (unanswered.get(socket) ?? 0) > 0
  const headersTimeout = (limits.headerSeconds ?? 10) * 1000
  const connectionsCheckingInterval = Math.min(2000, headersTimeout)
  const timeouts = { headersTimeout, connectionsCheckingInterval }
  const server = createServer({ ...requestLimits, ...timeouts }, (request, response) => {
    const { socket } = request
    const count = (unanswered.get(socket) ?? 0) + 1
    if (count > maxPipelined) {
      socket.destroy()
      return
    }
    unanswered.set(socket, count)
    response.once('close', () => unanswered.set(socket, (unanswered.get(socket) ?? 1) - 1))
    answer(options, connections, request, response).catch((error: unknown) => {
      onError(defect('HTTP', error))
      response.destroy()
    })
  })
  server.maxHeadersCount = 100
  server.setTimeout(limits.idleSeconds * 1000)
  server.on('clientError', (error, socket) => {
    const broken = understandBroken(error)
    const client = socket instanceof Socket && plainAddress(socket.remoteAddress)
    if (!broken || !client || !socket.writable) {
      socket.destroy()
      return
    }
    const { status, file, reason } = broken
    // A timeout is not reported: it does not explain why a machine does not boot.
    if (status !== 408) {
      options.report({ kind: 'http', step: 'refuse', address: client, file, bytes: 0, reason })
    }
    if (isAnswering(socket)) socket.destroy()
    else socket.end(closingAnswer(status), () => socket.destroy())
  })
  // This server never listens, but Node checks the times of requests only after this event.
  server.emit('listening')

  return {
    accept(socket) {
      const client = plainAddress(socket.remoteAddress)
      if (client === undefined || hears?.(client) === false) {
        socket.destroy()
        return
      }
      // As Node's own HTTP server does: a client may close its side after its request.
      socket.allowHalfOpen = true
      server.emit('connection', socket)
      connections.add(socket, client)
    },
    close() {
      server.close()
      connections.destroy()
    },
  }
}

/** Without a sentence, the machine is told the reason. */
const refusals: Record<NoBootFile['kind'], [status: number, sentence?: string]> = {
  missing: [404, 'There is no such file.'],
  'not-served': [403, 'This machine is not served.'],
  refused: [400],
  busy: [503, 'The file cannot be opened at the moment. Ask again.'],
  unreadable: [500, 'The file cannot be read.'],
}

let ranges: SendRange | undefined

/** The addon is loaded once in a process. */
function defaultRanges(): SendRange {
  return (ranges ??= createKernelRanges(copyRange) ?? copyRange)
}

async function answer(
  {
    treesOf,
    knowledge,
    report,
    clientAt = everyone,
    sendRange = defaultRanges(),
  }: HttpServiceOptions,
  connections: Connections,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // A request that waits for the answer to an earlier one of its connection needs no file and no buffer
  // yet.
  if (!response.socket) await once(response, 'socket')
  const used = () => connections.used(request.socket)
  used()
  const address = plainAddress(request.socket.remoteAddress) ?? ''
  const understood = understand(request)
  if ('reason' in understood) {
    const { status, reason } = understood
    if (status === 405) response.setHeader('Allow', 'GET, HEAD')
    sendText(response, status, `Refused: ${reason}.`)
    const file = (request.url ?? '').slice(0, 200)
    report({ kind: 'http', step: 'refuse', address, file, bytes: 0, reason })
    return
  }
  const { path } = understood
  const machine = clientAt(address).name
  if (knowledge && path.startsWith('/api/')) {
    await answerData(knowledge, { machine, address, host: request.headers.host, path }, response)
    return
  }

  const tell = (step: FileEvent['step'], details: Partial<FileEvent> = {}) =>
    report({ kind: 'http', step, address, file: path, bytes: 0, ...details })
  const found = await beginInTurn(machine, () =>
    openBootFile(treesOf, { address, protocol: 'http' }, path),
  )
  if (found.kind !== 'file') {
    const [status, sentence = `${found.reason}.`] = refusals[found.kind]
    sendText(response, status, sentence)
    const { step, ...why } = toldOf(found)
    tell(step, why)
    return
  }
  try {
    await sendFile(request, response, { machine, path, file: found.file, tell, used, sendRange })
  } finally {
    found.close()
  }
}

interface Sending {
  machine: string
  path: string
  file: SharedFile
  tell: (step: FileEvent['step'], details: Partial<FileEvent>) => void
  /** Called after each piece that is sent. */
  used: () => void
  sendRange: SendRange
}

async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  { machine, path, file, tell, used, sendRange }: Sending,
): Promise<void> {
  const { range, ...whole } = request.headers
  // A range has a meaning only for GET. [RFC 9110 §14.2]
  const headers = request.method === 'GET' ? { ...whole, range } : whole
  const { status, fields, body } = answerFor(headers, path, file)
  response.writeHead(status, fields)
  if (request.method === 'HEAD' || body.length === 0) {
    response.end()
    return
  }
  const { size } = file
  let bytes = 0
  tell('begin', { size })
  try {
    await sendBody(response, { machine, file, sendRange }, body, (count) => {
      bytes += count
      used()
    })
  } catch (error) {
    tell('fail', { bytes, size, reason: `the transfer broke off: ${messageOf(error)}` })
    return
  }
  tell('end', { bytes, size })
}
