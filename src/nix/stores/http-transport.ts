/** A binary cache over HTTP. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { request, type Dispatcher } from 'undici'

import { NetimageError } from '../../errors.ts'
import { cacheInfoName, type Transport } from './binary-cache.ts'
import { createHttpAgents } from './http-agents.ts'
import { readErrorText, readText } from './http-body.ts'
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
   * Follows redirects itself: undici would send our session token to the next server, and would not
   * sign the next request.
   */
  async function send(url: URL, headers: Record<string, string>, signal: AbortSignal) {
    let target = url
    for (let redirects = 0; ; redirects++) {
      const response = await request(target, {
        dispatcher: agents.agentFor(target),
        headers: {
          'user-agent': 'netimage',
          // Ask for the bytes as they are: NARs are already compressed and hashed in that form.
          'accept-encoding': 'identity',
          // Never send the credentials of this server to another server.
          ...(target.origin === url.origin && (await settings.authorize(target))),
          ...headers,
        },
        signal,
      })
      if (response.statusCode < 300) return response
      const body = await readErrorText(response)
      const next = redirects < maxRedirects ? redirectTarget(target, response) : undefined
      if (!next) throw new HttpFailure(url, response, body)
      target = next
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
          return await readText(url, await send(url, {}, ending))
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
        send: (headers) => send(url, headers, signal),
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
function redirectTarget(from: URL, { statusCode, headers }: Dispatcher.ResponseData) {
  if (!redirecting.has(statusCode) || typeof headers.location !== 'string') return undefined
  const target = URL.parse(headers.location, from.href)
  return target?.protocol === 'http:' || target?.protocol === 'https:' ? target : undefined
}
