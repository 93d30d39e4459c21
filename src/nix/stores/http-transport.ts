/**
 * A binary cache over HTTP: connections are reused, what fails for the moment is tried again, and
 * a transfer that was cut goes on where it ended.
 */
import { randomBytes } from 'node:crypto'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { EnvHttpProxyAgent, request, type Dispatcher } from 'undici'

import { errnoOf, fileSystemError, messageOf, NetimageError } from '../../errors.ts'
import { isCompression } from '../compression.ts'
import { decompress } from '../decompress.ts'
import { maxNarInfoBytes } from '../narinfo.ts'
import type { Transport } from './binary-cache.ts'

export interface HttpSettings {
  /** Headers that allow a request, for each URL anew. */
  authorize: (url: URL) => Promise<Record<string, string>>
  /** Ends every request, and the waiting between them. */
  signal?: AbortSignal | undefined
}

const attempts = 5
/** An attempt that got so much further does not count as failed. */
const worthwhileBytes = 65536
const firstDelayMs = 250
const maxDelayMs = 10_000
const silenceMs = 30_000
const connections = 24
const maxRedirects = 5

/** @param base where the cache is, without credentials */
export function httpTransport(base: URL, shownUrl: string, settings: HttpSettings): Transport {
  const directory = new URL(base.href.endsWith('/') ? base : `${base.href}/`)
  const dispatcher = new EnvHttpProxyAgent({
    connections,
    headersTimeout: silenceMs,
    bodyTimeout: silenceMs,
    connect: { timeout: 10_000 },
  })

  const closing = new AbortController()
  const ending = AbortSignal.any([closing.signal, ...(settings.signal ? [settings.signal] : [])])

  async function send(url: URL, headers: Record<string, string>, signal: AbortSignal) {
    let target = url
    for (let redirects = 0; ; redirects++) {
      const response = await request(target, {
        dispatcher,
        headers: {
          'user-agent': 'netimage',
          // The bytes as the cache has them: they are compressed already, and hashed that way.
          'accept-encoding': 'identity',
          // What lets us in here is nobody else's business.
          ...(target.origin === url.origin && (await settings.authorize(target))),
          ...headers,
        },
        signal,
      })
      if (response.statusCode < 300) return response
      await response.body.dump()
      const next = redirects < maxRedirects ? redirectTarget(target, response) : undefined
      if (!next) throw new HttpFailure(url, response)
      target = next
    }
  }

  function located(name: string): URL {
    try {
      const url = new URL(name, directory)
      if (url.protocol === 'http:' || url.protocol === 'https:') return url
    } catch {
      // Not a URL: said below.
    }
    throw new NetimageError('bad-narinfo', `the cache ${shownUrl} names a file at ${name}`)
  }

  return {
    url: shownUrl,
    async text(name) {
      const url = located(name)
      return await persist(url, ending, async () => {
        const response = await send(url, {}, ending)
        return await readText(url, response)
      })
    },
    async file(name, maxBytes, { scratch, signal: wanted, downloaded }) {
      const url = located(name)
      const signal = AbortSignal.any([ending, wanted])
      const file = join(scratch, `download-${randomBytes(8).toString('hex')}`)
      let received = 0
      let furthest = 0
      return await persist(url, signal, async (progressed) => {
        const response = await send(
          url,
          received > 0 ? { range: `bytes=${received}-` } : {},
          signal,
        ).catch((error: unknown) => {
          // Nothing is left to be sent: what came may be all, or of another file. So all over again.
          if (error instanceof HttpFailure && error.status === rangeNotSatisfiable) {
            downloaded(-received)
            received = 0
          }
          throw error
        })
        if (isEncoded(response)) throw encoded(url)
        const goesOn = response.statusCode === 206 && continuesAt(response) === received
        if (!goesOn) {
          downloaded(-received)
          received = 0
        }
        await using output = await open(file, goesOn ? 'r+' : 'w')
        for await (const chunk of bodyOf(response)) {
          if (received + chunk.length > maxBytes) throw tooLarge(url, maxBytes)
          await writeAll(output, chunk, received)
          // Only what is on the disk counts: the next attempt goes on from here.
          received += chunk.length
          downloaded(chunk.length)
          if (received >= furthest + worthwhileBytes) {
            furthest = received
            progressed()
          }
        }
        return { file, temporary: true }
      })
    },
    async close() {
      closing.abort()
      await dispatcher.destroy()
    },
  }
}

/** Where a redirect leads; undefined where the response is none, or leads to no HTTP server. */
function redirectTarget(from: URL, { statusCode, headers }: Dispatcher.ResponseData) {
  if (!redirecting.has(statusCode) || typeof headers.location !== 'string') return undefined
  const target = URL.parse(headers.location, from.href)
  return target?.protocol === 'http:' || target?.protocol === 'https:' ? target : undefined
}

function bodyOf(response: Dispatcher.ResponseData): AsyncIterable<Buffer> {
  return response.body
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let at = 0; at < chunk.length;) {
    at += (await file.write(chunk, at, chunk.length - at, position + at)).bytesWritten
  }
}

/** An answer that is not the file that was asked for. */
class HttpFailure extends Error {
  readonly status: number
  readonly retryAfterMs: number | undefined

  constructor(url: URL, response: Dispatcher.ResponseData) {
    super(`${shown(url)} answered with status ${response.statusCode}`)
    this.status = response.statusCode
    const seconds = Number(response.headers['retry-after'])
    this.retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined
  }
}

const redirecting = new Set([301, 302, 303, 307, 308])
const notThere = new Set([404, 410])
const notAllowed = new Set([401, 403, 407])
const rangeNotSatisfiable = 416
const passing = new Set([408, rangeNotSatisfiable, 425, 429])

/**
 * Tries until it works, fails for good, or has failed too often without getting any further.
 * Undefined: not there.
 */
async function persist<T>(
  url: URL,
  signal: AbortSignal,
  attempt: (progressed: () => void) => Promise<T>,
): Promise<T | undefined> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt(() => (tries = 1))
    } catch (error) {
      if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
      if (error instanceof NetimageError) throw error
      if (isLocal(error)) throw fileSystemError(`could not save ${shown(url)}`, error)
      const failure = error instanceof HttpFailure ? error : undefined
      if (failure && notThere.has(failure.status)) return undefined
      if (failure && notAllowed.has(failure.status)) throw refused(url, failure)
      const final = failure && failure.status < 500 && !passing.has(failure.status)
      if (final || tries === attempts) throw unavailable(url, error, tries)
      await pause(tries, failure?.retryAfterMs, signal)
    }
  }
}

async function pause(tries: number, wanted: number | undefined, signal: AbortSignal) {
  // Spread out, so that many transfers that failed together do not come back together.
  const backOff = firstDelayMs * 2 ** (tries - 1) * (0.5 + Math.random())
  const time = Math.min(Math.max(backOff, wanted ?? 0), maxDelayMs)
  await delay(time, undefined, { signal }).catch(() => undefined)
}

/** Failures of this machine's disk, which trying again does not mend. */
function isLocal(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && isDiskCall(error.syscall)
}

function isDiskCall(syscall: unknown): boolean {
  return syscall === 'open' || syscall === 'write'
}

async function readText(url: URL, response: Dispatcher.ResponseData): Promise<string> {
  const encoding = String(response.headers['content-encoding'] ?? 'identity')
  const compression = encoding === 'identity' ? 'none' : encoding
  if (!isCompression(compression)) throw encoded(url)
  const parts: Buffer[] = []
  let size = 0
  for await (const chunk of decompress(bodyOf(response), compression)) {
    size += chunk.length
    if (size > maxNarInfoBytes) throw tooLarge(url, maxNarInfoBytes)
    parts.push(chunk)
  }
  return Buffer.concat(parts).toString()
}

function isEncoded(response: Dispatcher.ResponseData): boolean {
  return (response.headers['content-encoding'] ?? 'identity') !== 'identity'
}

/** RFC 9110, section 14.4: `bytes <first>-<last>/<length>` */
function continuesAt(response: Dispatcher.ResponseData): number | undefined {
  const match = /^bytes (\d+)-/.exec(String(response.headers['content-range'] ?? ''))
  return match ? Number(match[1]) : undefined
}

/** A URL fit to be shown: credentials may stand in its query. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`
}

function encoded(url: URL): NetimageError {
  return new NetimageError(
    'bad-store',
    `${shown(url)} comes in a content encoding that was not asked for`,
  )
}

function tooLarge(url: URL, maxBytes: number): NetimageError {
  return new NetimageError('size-mismatch', `${shown(url)} is larger than ${maxBytes} bytes`, {
    hint: 'The cache sends something else than it announced.',
  })
}

function refused(url: URL, failure: HttpFailure): NetimageError {
  return new NetimageError('not-allowed', failure.message, {
    cause: failure,
    hint: `This cache wants credentials: put "machine ${url.hostname} login … password …" in a file and name it with --netrc-file.`,
  })
}

function unavailable(url: URL, error: unknown, tries: number): NetimageError {
  const errno = errnoOf(error)
  const why = error instanceof HttpFailure ? error.message : `${messageOf(error) || errno}`
  const often = tries > 1 ? ` (tried ${tries} times)` : ''
  return new NetimageError('store-unavailable', `could not get ${shown(url)}: ${why}${often}`, {
    cause: error,
    hint: 'Check the network and the URL, or name another store with --from; the next run goes on from what was finished.',
  })
}
