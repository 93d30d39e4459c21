/**
 * Decides when to repeat a request. We tried undici's own retries. They give up if a cache does not
 * support Range or sends no length, they ignore progress, and they ignore the file on our disk.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Dispatcher } from 'undici'

import { errnoOf, messageOf, NetimageError } from '../../errors.ts'
import { certificateFailure } from './certificates.ts'

const attempts = 5
const firstDelayMs = 250
const maxDelayMs = 10_000
/** The wait after a 429 without Retry-After, as in Nix. */
const tooManyRequestsMs = 60_000
/** The longest total wait of a request for a cache that asks us to wait. */
const patienceMs = 10 * 60_000

export interface RetrySettings {
  /** Gets a message when a cache makes us wait. */
  warn: (message: string) => void
  /** Waits until the time is over or the signal is aborted. Default: uses the clock. */
  wait?: ((ms: number, signal: AbortSignal) => Promise<void>) | undefined
  /** What to do after a 403, as a sentence. */
  accessHint: (url: URL) => string
}

/** An answer that is not the requested file. */
export class HttpFailure extends Error {
  readonly status: number
  /** The wait that the server asks for. */
  readonly retryAfterMs: number | undefined
  /** The text of the answer. */
  readonly body: string

  constructor(
    url: URL,
    response: Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>,
    body: string,
  ) {
    super(`${shown(url)} answered with status ${response.statusCode}`)
    this.status = response.statusCode
    this.retryAfterMs = readRetryAfter(response.headers['retry-after'])
    this.body = body
  }
}

/** RFC 9110, section 10.2.3: seconds, or a date. */
function readRetryAfter(header: string | string[] | undefined): number | undefined {
  if (typeof header !== 'string') return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0)
}

const notThere = new Set([404, 410])
const notAllowed = new Set([401, 403])
const proxyNeedsPassword = 407
export const rangeNotSatisfiable = 416
const tooManyRequests = 429
const passing = new Set([408, rangeNotSatisfiable, 425])

/** @param progressed is called after good progress: earlier failures then no longer count */
type Attempt<T> = (progressed: () => void) => Promise<T>

/**
 * Repeats an attempt until it succeeds, fails finally, or fails too often without progress. If the
 * server asks us to wait, that does not count as a failure.
 *
 * @returns undefined if the server does not have the file
 */
export type Persist = <T>(
  url: URL,
  signal: AbortSignal,
  attempt: Attempt<T>,
) => Promise<T | undefined>

export function createPersistence(settings: RetrySettings): Persist {
  const { warn, accessHint, wait = waitByClock } = settings
  /** The number of requests that wait because the server asks for it. We warn once for all. */
  let waiting = 0

  async function waitAsAsked(url: URL, failure: HttpFailure, ms: number, signal: AbortSignal) {
    if (waiting++ === 0) {
      const seconds = Math.ceil(ms / 1000)
      warn(`${url.host} answered with status ${failure.status}; waiting ${seconds} s`)
    }
    try {
      await wait(ms, signal)
    } finally {
      waiting--
    }
  }

  return async (url, signal, attempt) => {
    let waitedMs = 0
    let waits = 0
    for (let tries = 1; ;) {
      try {
        return await attempt(() => (tries = 1))
      } catch (error) {
        if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
        if (error instanceof NetimageError) throw error
        const failure = error instanceof HttpFailure ? error : undefined
        const ofProxy = refusalOfProxy(error)
        if (ofProxy !== undefined) throw refusedByProxy(url, ofProxy, error)
        if (failure && notThere.has(failure.status)) return undefined
        if (failure && notAllowed.has(failure.status)) throw refused(url, failure, accessHint(url))
        const asked = failure && askedDelay(failure)
        if (failure && asked !== undefined) {
          const ms = Math.max(asked, backOffMs(++waits))
          waitedMs += ms
          if (waitedMs > patienceMs) throw unavailable(url, error, ` (asks to wait ${ms / 1000} s)`)
          await waitAsAsked(url, failure, ms, signal)
          continue
        }
        const final = failure
          ? failure.status < 500 && !passing.has(failure.status)
          : isFinal(error)
        if (final || tries === attempts) {
          throw unavailable(url, error, tries > 1 ? ` (tried ${tries} times)` : '')
        }
        await wait(backOffMs(tries), signal)
        tries++
      }
    }
  }
}

function askedDelay({ status, retryAfterMs }: HttpFailure): number | undefined {
  if (status === tooManyRequests) return retryAfterMs ?? tooManyRequestsMs
  return status === 503 ? retryAfterMs : undefined
}

/** Random, so that transfers that failed at the same time do not all retry at the same time. */
function backOffMs(tries: number): number {
  return Math.min(firstDelayMs * 2 ** (tries - 1) * (0.5 + Math.random()), maxDelayMs)
}

async function waitByClock(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined)
}

/** A retry does not help if the certificate is wrong or the server does not speak TLS. */
function isFinal(error: unknown): boolean {
  const code = errnoOf(error) ?? ''
  return certificateFailure(code) !== undefined || code.startsWith('ERR_SSL_')
}

/** The URL for messages, without its query: the query may contain credentials. */
export function shown(url: URL): string {
  return `${url.origin}${url.pathname}`
}

/**
 * The status with which a proxy, and not the server, refused a request. undici tells it only in the
 * messages of its errors: `Proxy response (403) !== 200 when HTTP Tunneling`.
 */
function refusalOfProxy(error: unknown): number | undefined {
  if (error instanceof HttpFailure) {
    return error.status === proxyNeedsPassword ? error.status : undefined
  }
  const [, digits] = /^Proxy .*\((\d{3})\)/.exec(messageOf(error)) ?? []
  const status = Number(digits)
  return status === proxyNeedsPassword || notAllowed.has(status) ? status : undefined
}

function refusedByProxy(url: URL, status: number, cause: unknown): NetimageError {
  const message = `the proxy refused the request for ${shown(url)} with status ${status}`
  return new NetimageError('not-allowed', message, {
    cause,
    hint:
      status === proxyNeedsPassword
        ? 'The proxy needs a user and a password. Put both into its URL, in https_proxy for https:// caches and in http_proxy for http:// caches: http://user:password@host:port'
        : 'Ask the owner of the proxy to allow this server. Or name the server in no_proxy, if this machine can reach it without the proxy.',
    details: { url: shown(url), status },
  })
}

function refused(url: URL, failure: HttpFailure, hint: string): NetimageError {
  const details = { url: shown(url), status: failure.status }
  return new NetimageError('not-allowed', failure.message, { cause: failure, hint, details })
}

function unavailable(url: URL, error: unknown, more: string): NetimageError {
  const errno = errnoOf(error) ?? ''
  const certificate = certificateFailure(errno)
  const why = certificate ?? (messageOf(error) || errno)
  return new NetimageError('store-unavailable', `could not get ${shown(url)}: ${why}${more}`, {
    cause: error,
    hint:
      certificate === undefined
        ? 'Check the network and the URL, or name another store with --from. Finished work is kept, and the next run continues from there.'
        : 'If the certificate is from your own authority, set NIX_SSL_CERT_FILE to a file with the certificates of all authorities that you trust.',
    details: {
      url: shown(url),
      ...(error instanceof HttpFailure && { status: error.status }),
    },
  })
}
