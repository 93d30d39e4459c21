/** A binary cache over HTTP. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { request } from 'undici'

import { NetimageError } from '../../errors.ts'
import { cacheInfoName, type Transport } from './binary-cache.ts'
import { createHttpAgents } from './http-agents.ts'
import { atSpeed, readErrorText, readText, type HttpResponse } from './http-body.ts'
import { createDownload } from './http-download.ts'
import { createPersistence, HttpFailure, type RetrySettings } from './http-retry.ts'

export interface HttpSettings extends RetrySettings {
  /** The headers with credentials for a request to this URL. */
  authorize: (url: URL) => Promise<Record<string, string>>
  /** Whether a 403 with this body means that the file does not exist. */
  meansAbsent?: (body: string) => boolean
  /** Names the proxies and the file of certificates. */
  env: NodeJS.ProcessEnv
  /** Ends every request, and every wait between requests. */
  signal?: AbortSignal | undefined
  /** A clock that never goes back, in milliseconds. Default: the clock of this machine. */
  now?: (() => number) | undefined
}

const maxRedirects = 5
const redirecting = new Set([301, 302, 303, 307, 308])

/** @param base the URL of the cache, without credentials */
export function httpTransport(base: URL, shownUrl: string, settings: HttpSettings): Transport {
  const directory = new URL(base.href.endsWith('/') ? base : `${base.href}/`)
  const agents = createHttpAgents(settings.env)
  const persist = createPersistence(settings)
  const closing = new AbortController()
  const ending = AbortSignal.any([closing.signal, ...(settings.signal ? [settings.signal] : [])])

  /**
   * Makes one request. After `receive` has ended, its connection is closed or free for the next
   * request: a body that nobody reads to its end would keep the connection for ever.
   */
  async function exchange<T>(
    target: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
    receive: (response: HttpResponse) => Promise<T>,
  ): Promise<T> {
    const dispatcher = agents.agentFor(target)
    const { body, ...response } = await request(target, { dispatcher, headers, signal })
    try {
      return await receive({ ...response, body: atSpeed(target, body, settings.now) })
    } finally {
      // If bytes are left, this closes the connection, and the body then reports that as an error.
      body.on('error', () => undefined).destroy()
    }
  }

  /**
   * Follows redirects itself: undici would send our session token to the next server, and would not
   * sign the next request.
   */
  async function send<T>(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
    receive: (response: HttpResponse) => Promise<T>,
  ): Promise<T> {
    let target = url
    for (let redirects = 0; ; redirects++) {
      const sent = {
        'user-agent': 'netimage',
        // Ask for the bytes as they are: NARs are already compressed and hashed in that form.
        'accept-encoding': 'identity',
        // Never send the credentials of this server to another server.
        ...(target.origin === url.origin && (await settings.authorize(target))),
        ...headers,
      }
      const answer = await exchange(target, sent, signal, async (response) => {
        if (response.statusCode < 300) return { received: await receive(response) }
        const body = await readErrorText(response)
        const next = redirects < maxRedirects ? redirectTarget(target, response) : undefined
        if (!next) throw new HttpFailure(url, response, body)
        return { next }
      })
      if ('received' in answer) return answer.received
      target = answer.next
    }
  }

  function located(name: string): URL {
    try {
      const url = new URL(name, directory)
      if (url.protocol === 'http:' || url.protocol === 'https:') return url
    } catch {
      // The name is not a URL: the error below says so.
    }
    throw new NetimageError('bad-narinfo', `the cache ${shownUrl} names a file at ${name}`, {
      details: { store: shownUrl, field: 'URL', actual: name },
    })
  }

  function isAbsent(error: unknown): boolean {
    if (!(error instanceof HttpFailure) || error.status !== 403) return false
    return settings.meansAbsent?.(error.body) ?? false
  }

  return {
    url: shownUrl,
    async text(name) {
      const url = located(name)
      return await persist(url, ending, async () => {
        try {
          return await send(url, {}, ending, (response) => readText(url, response))
        } catch (error) {
          // Every cache has this file. So a 403 means that we may not read anything here.
          if (name !== cacheInfoName && isAbsent(error)) return undefined
          throw error
        }
      })
    },
    async file(name, maxBytes, { scratch, signal: wanted, downloaded }) {
      const url = located(name)
      const signal = AbortSignal.any([ending, wanted])
      const file = join(scratch, `download-${randomBytes(8).toString('hex')}`)
      const attempt = createDownload({
        ...{ url, file, maxBytes, downloaded },
        send: (headers, receive) => send(url, headers, signal, receive),
      })
      return await persist(url, signal, async (progressed) => {
        await attempt(progressed)
        return { file, temporary: true }
      })
    },
    async close() {
      closing.abort()
      await agents.close()
    },
  }
}

/** @returns undefined if the response is not a redirect to an HTTP server */
function redirectTarget(from: URL, { statusCode, headers }: HttpResponse): URL | undefined {
  if (!redirecting.has(statusCode) || typeof headers.location !== 'string') return undefined
  const target = URL.parse(headers.location, from.href)
  return target?.protocol === 'http:' || target?.protocol === 'https:' ? target : undefined
}
