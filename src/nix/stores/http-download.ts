/** A file that comes over HTTP, in as many parts as it takes: what is on the disk stays. */
import { open, type FileHandle } from 'node:fs/promises'
import type { Dispatcher } from 'undici'

import { fileSystemError } from '../../errors.ts'
import { encoded, isEncoded, tooLarge } from './http-body.ts'
import { HttpFailure, rangeNotSatisfiable, shown } from './http-retry.ts'

/** An attempt that got so much further does not count as failed. */
const worthwhileBytes = 65536

export interface Download {
  url: URL
  /** Where it is written. */
  file: string
  /** What is larger is an error. */
  maxBytes: number
  /** Makes the request; throws an HttpFailure for what is no success. */
  send: (headers: Record<string, string>) => Promise<Dispatcher.ResponseData>
  /** Told of the bytes that came; negative if they have to come again. */
  downloaded: (bytes: number) => void
}

/** @returns one attempt after another, each of which goes on from where the last one ended */
export function createDownload({ url, file, maxBytes, send, downloaded }: Download) {
  let received = 0
  let furthest = 0
  let etag: string | undefined

  function startOver(): void {
    downloaded(-received)
    received = 0
  }

  async function receive(
    response: Dispatcher.ResponseData,
    output: FileHandle,
    progressed: () => void,
  ): Promise<void> {
    const body: AsyncIterable<Buffer> = response.body
    for await (const chunk of body) {
      if (received + chunk.length > maxBytes) throw tooLarge(url, maxBytes)
      await saving(writeAll(output, chunk, received))
      // Only what is on the disk counts: the next attempt goes on from here.
      received += chunk.length
      downloaded(chunk.length)
      if (received >= furthest + worthwhileBytes) {
        furthest = received
        progressed()
      }
    }
  }

  /** An error of this machine's disk, which is no fault of the cache: trying again does not mend it. */
  async function saving<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      throw fileSystemError(`could not save ${shown(url)}`, error)
    }
  }

  return async (progressed: () => void): Promise<void> => {
    const response = await send(received > 0 ? rangeFrom(received, etag) : {}).catch(
      (error: unknown) => {
        // Nothing is left to be sent: what came may be all, or of another file. So all over again.
        if (error instanceof HttpFailure && error.status === rangeNotSatisfiable) startOver()
        throw error
      },
    )
    if (isEncoded(response)) throw encoded(url)
    const goesOn = response.statusCode === 206 && continuesAt(response) === received
    if (!goesOn) startOver()
    etag = strongEtag(response)
    const output = await saving(open(file, goesOn ? 'r+' : 'w'))
    try {
      await receive(response, output, progressed)
    } catch (error) {
      // That it cannot be closed either says no more.
      await output.close().catch(() => undefined)
      throw error
    }
    await saving(output.close())
  }
}

/** The rest, if the file is still the same: RFC 9110, section 13.1.5. */
function rangeFrom(received: number, etag: string | undefined): Record<string, string> {
  return { range: `bytes=${received}-`, ...(etag !== undefined && { 'if-range': etag }) }
}

/** A weak one (`W/"…"`) does not say that each byte is the same. */
function strongEtag({ headers }: Dispatcher.ResponseData): string | undefined {
  return typeof headers.etag === 'string' && headers.etag.startsWith('"') ? headers.etag : undefined
}

/** RFC 9110, section 14.4: `bytes <first>-<last>/<length>` */
function continuesAt(response: Dispatcher.ResponseData): number | undefined {
  const match = /^bytes (\d+)-/.exec(String(response.headers['content-range'] ?? ''))
  return match ? Number(match[1]) : undefined
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let at = 0; at < chunk.length;) {
    at += (await file.write(chunk, at, chunk.length - at, position + at)).bytesWritten
  }
}
