/**
 * When a request is made again. undici's own retries were tried for this and give up where a cache
 * has no Range or sends no length, count no progress, and know nothing of the file on our disk.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Dispatcher } from 'undici'

import { errnoOf, messageOf, NetimageError } from '../../errors.ts'
import { certificateFailure } from './certificates.ts'

const attempts = 5
const firstDelayMs = 250
const maxDelayMs = 10_000
/** What Nix waits for a cache that has too many requests and does not say how long to wait. */
const tooManyRequestsMs = 60_000
/** How long a request waits in all for a cache that asks it to. */
const patienceMs = 10 * 60_000

export interface RetrySettings {
  /** Told when a cache makes us wait. */
  warn: (message: string) => void
  /** Ends as soon as the signal does; default: by the clock. */
  wait?: ((ms: number, signal: AbortSignal) => Promise<void>) | undefined
  /** What to do after a 403, as a sentence. */
  accessHint: (url: URL) => string
}

/** An answer that is not the file that was asked for. */
export class HttpFailure extends Error {
  readonly status: number
  /** What the server asks for, if it does. */
  readonly retryAfterMs: number | undefined
  /** What the server says of it. */
  readonly body: string

  constructor(url: URL, response: Dispatcher.ResponseData, body: string) {
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
const notAllowed = new Set([401, 403, 407])
export const rangeNotSatisfiable = 416
const tooManyRequests = 429
const passing = new Set([408, rangeNotSatisfiable, 425])

/** @param progressed to be called when so much was got that the attempts before count no more */
type Attempt<T> = (progressed: () => void) => Promise<T>

/**
 * Tries until it works, fails for good, or has failed too often without getting any further. To wait
 * because the server asks for it is no failure.
 *
 * @returns undefined if the server does not have it
 */
export type Persist = <T>(
  url: URL,
  signal: AbortSignal,
  attempt: Attempt<T>,
) => Promise<T | undefined>

export function createPersistence(settings: RetrySettings): Persist {
  const { warn, accessHint, wait = waitByClock } = settings
  /** How many requests wait because the server asks for it: it is said once for all of them. */
  let waiting = 0

  async function waitAsAsked(url: URL, failure: HttpFailure, ms: number, signal: AbortSignal) {
    if (waiting++ === 0) {
      const seconds = Math.ceil(ms / 1000)
      warn(`${url.host} answered with status ${failure.status}: waiting ${seconds} s, as it asks`)
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

/** Spread out, so that many transfers that failed together do not come back together. */
function backOffMs(tries: number): number {
  return Math.min(firstDelayMs * 2 ** (tries - 1) * (0.5 + Math.random()), maxDelayMs)
}

async function waitByClock(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined)
}

/** A certificate does not mend itself, and what speaks no TLS does not learn it. */
function isFinal(error: unknown): boolean {
  const code = errnoOf(error) ?? ''
  return certificateFailure(code) !== undefined || code.startsWith('ERR_SSL_')
}

/** A URL fit to be shown: credentials may stand in its query. */
export function shown(url: URL): string {
  return `${url.origin}${url.pathname}`
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
        ? 'Check the network and the URL, or name another store with --from; the next run goes on from what was finished.'
        : 'If the cache has a certificate by an authority of your own, let NIX_SSL_CERT_FILE name a file with the certificates of all authorities that count.',
    details: {
      url: shown(url),
      ...(error instanceof HttpFailure && { status: error.status }),
    },
  })
}
