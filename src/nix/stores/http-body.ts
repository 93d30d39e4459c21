/** Reads the bodies of HTTP responses, with checks of their encoding and size. */
import type { Dispatcher } from 'undici'

import { NetimageError } from '../../errors.ts'
import type { Chunks } from '../byte-reader.ts'
import { isCompression } from '../compression.ts'
import { decompress } from '../decompress.ts'
import { maxNarInfoBytes } from '../narinfo.ts'
import { shown } from './http-retry.ts'

const maxErrorBytes = 16384

/** The text of a small file. The limit counts before and after decompression. */
export async function readText(url: URL, response: Dispatcher.ResponseData): Promise<string> {
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
export async function readErrorText(response: Dispatcher.ResponseData): Promise<string> {
  const body: AsyncIterable<Buffer> = response.body
  const parts: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxErrorBytes) return ''
    parts.push(chunk)
  }
  return Buffer.concat(parts).toString()
}

export function isEncoded(response: Dispatcher.ResponseData): boolean {
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
