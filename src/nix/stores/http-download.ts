/** Downloads a file over HTTP. After a failure the next attempt continues the file on the disk. */
import { open, type FileHandle } from 'node:fs/promises'

import { fileSystemError } from '../../errors.ts'
import { encoded, isEncoded, tooLarge, type HttpResponse } from './http-body.ts'
import { HttpFailure, rangeNotSatisfiable, shown } from './http-retry.ts'

/** An attempt that received this many new bytes does not count as failed. */
const worthwhileBytes = 65536

export interface Download {
  url: URL
  /** The file to write. */
  file: string
  /** A larger file is an error. */
  maxBytes: number
  /** Makes the request. @throws HttpFailure if the response is not a success */
  send: (
    headers: Record<string, string>,
    receive: (response: HttpResponse) => Promise<void>,
  ) => Promise<void>
  /** Gets the number of received bytes; a negative number if they must be received again. */
  downloaded: (bytes: number) => void
}

/** @returns a function for one attempt; each attempt continues where the last one ended */
export function createDownload({ url, file, maxBytes, send, downloaded }: Download) {
  let received = 0
  let furthest = 0
  let etag: string | undefined

  function startOver(): void {
    downloaded(-received)
    received = 0
  }

  async function save(
    { body }: HttpResponse,
    output: FileHandle,
    progressed: () => void,
  ): Promise<void> {
    for await (const chunk of body) {
      if (received + chunk.length > maxBytes) throw tooLarge(url, maxBytes)
      await saving(writeAll(output, chunk, received))
      // Count only bytes that are on the disk: the next attempt continues from here.
      received += chunk.length
      downloaded(chunk.length)
      if (received >= furthest + worthwhileBytes) {
        furthest = received
        progressed()
      }
    }
  }

  /** Marks errors of this machine's disk: the cache is not to blame, and a retry does not help. */
  async function saving<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      throw fileSystemError(`could not save ${shown(url)}`, error)
    }
  }

  async function receive(response: HttpResponse, progressed: () => void): Promise<void> {
    if (isEncoded(response)) throw encoded(url)
    const goesOn = response.statusCode === 206 && continuesAt(response) === received
    if (!goesOn) startOver()
    if (!goesOn && response.statusCode === 206) {
      throw new Error('the server sent another part of the file than netimage asked for')
    }
    etag = strongEtag(response)
    const output = await saving(open(file, goesOn ? 'r+' : 'w'))
    try {
      await save(response, output, progressed)
    } catch (error) {
      // Report the first error, even if the file cannot be closed either.
      await output.close().catch(() => undefined)
      throw error
    }
    await saving(output.close())
  }

  return async (progressed: () => void): Promise<void> => {
    const headers = received > 0 ? rangeFrom(received, etag) : {}
    try {
      await send(headers, (response) => receive(response, progressed))
    } catch (error) {
      // The server has no more bytes. Our bytes may be the whole file, or parts of an older file.
      // So start again.
      if (error instanceof HttpFailure && error.status === rangeNotSatisfiable) startOver()
      throw error
    }
  }
}

/** Asks for the rest, if the file is still the same: RFC 9110, section 13.1.5. */
function rangeFrom(received: number, etag: string | undefined): Record<string, string> {
  return { range: `bytes=${received}-`, ...(etag !== undefined && { 'if-range': etag }) }
}

/** A weak entity tag (`W/"…"`) does not guarantee that each byte is the same. */
function strongEtag({ headers }: HttpResponse): string | undefined {
  return typeof headers.etag === 'string' && headers.etag.startsWith('"') ? headers.etag : undefined
}

/** RFC 9110, section 14.4: `bytes <first>-<last>/<length>` */
function continuesAt(response: HttpResponse): number | undefined {
  const match = /^bytes (\d+)-/.exec(String(response.headers['content-range'] ?? ''))
  return match ? Number(match[1]) : undefined
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let at = 0; at < chunk.length;) {
    at += (await file.write(chunk, at, chunk.length - at, position + at)).bytesWritten
  }
}
