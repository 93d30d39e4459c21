/** Reads the bodies of HTTP responses, with checks of their encoding, size and speed. */
import type { Dispatcher } from 'undici'

import { NetimageError } from '../../errors.ts'
import type { Chunks } from '../byte-reader.ts'
import { isCompression } from '../compression.ts'
import { decompress } from '../decompress.ts'
import { maxNarInfoBytes } from '../narinfo.ts'
import { shown } from './http-retry.ts'

export interface HttpResponse extends Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'> {
  body: AsyncIterable<Buffer>
}

const maxErrorBytes = 16384

/**
 * A body must bring this many bytes in this time. All transfers together are then slower than 5 kB
 * per second: a system would take days.
 */
const leastBytes = 16384
const slowestMs = 60_000

/**
 * The same body, but a body that comes too slowly is an error. Without this rule, one byte every 29
 * seconds would hold a request for ever, because no silence is long enough to end it. Nix has such
 * a rule, too: it ends a transfer of less than a byte per second after five minutes
 * (`stalled-download-timeout`).
 *
 * @param now a clock that never goes back, in milliseconds
 */
export async function* atSpeed(
  url: URL,
  body: AsyncIterable<Buffer>,
  now: () => number = () => performance.now(),
): AsyncGenerator<Buffer> {
  let bytes = 0
  let waitedMs = 0
  let askedAt = now()
  for await (const chunk of body) {
    // Count only the time of waiting for the server, not the time of writing to the disk.
    waitedMs += now() - askedAt
    bytes += chunk.length
    if (bytes >= leastBytes) bytes = waitedMs = 0
    else if (waitedMs > slowestMs) throw tooSlow(url)
    yield chunk
    askedAt = now()
  }
}

function tooSlow(url: URL): Error {
  const rule = `less than ${leastBytes} bytes in ${slowestMs / 1000} s`
  return new Error(`${shown(url)} came too slowly: ${rule}`)
}

/** The text of a small file. The limit counts before and after decompression. */
export async function readText(url: URL, response: HttpResponse): Promise<string> {
  const encoding = String(response.headers['content-encoding'] ?? 'identity')
  const compression = encoding === 'identity' ? 'none' : encoding
  if (!isCompression(compression)) throw encoded(url)
  // Read the whole body first. Otherwise a cut connection would look like a broken compression.
  const body = await readBounded(url, response.body)
  if (compression === 'none') return body.toString()
  return (await readBounded(url, decompress([body], compression))).toString()
}

async function readBounded(url: URL, chunks: Chunks): Promise<Buffer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const chunk of chunks) {
    size += chunk.length
    if (size > maxNarInfoBytes) throw tooLarge(url, maxNarInfoBytes)
    parts.push(chunk)
  }
  return Buffer.concat(parts)
}

/** The text with which a server explains a failure; empty if the text is too long. */
export async function readErrorText({ body }: HttpResponse): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxErrorBytes) return ''
    parts.push(chunk)
  }
  return Buffer.concat(parts).toString()
}

export function isEncoded(response: HttpResponse): boolean {
  return (response.headers['content-encoding'] ?? 'identity') !== 'identity'
}

export function encoded(url: URL): NetimageError {
  return new NetimageError(
    'bad-store',
    `${shown(url)} came in a content encoding that netimage did not ask for`,
    { details: { url: shown(url), field: 'Content-Encoding' } },
  )
}

export function tooLarge(url: URL, maxBytes: number): NetimageError {
  return new NetimageError('size-mismatch', `${shown(url)} is larger than ${maxBytes} bytes`, {
    hint: 'The cache sends another file than it announced. Name another store with --from.',
    details: { url: shown(url), expected: maxBytes },
  })
}
