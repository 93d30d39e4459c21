/** The answer to a request for a file: status, header fields and body. */
import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

import type { SharedFile } from '../shared-files.ts'
import { bodyLength, type BodyPart } from './body.ts'
import { evaluateConditions, rangeApplies } from './conditions.ts'
import { contentType } from './content-type.ts'
import { parseRanges, type Range } from './range.ts'

export interface Answer {
  status: 200 | 206 | 304 | 412 | 416
  fields: Record<string, string | number>
  body: readonly BodyPart[]
}

/** @param name the name in the request */
export function answerFor(
  headers: IncomingHttpHeaders,
  name: string,
  { size, modified, tag: plainTag }: SharedFile,
): Answer {
  const tag = `"${plainTag}"`
  const seconds = Math.floor(modified / 1000) * 1000
  const type = contentType(name)
  const validators = { tag, modified: seconds }
  const fields = {
    ETag: tag,
    'Last-Modified': new Date(seconds).toUTCString(),
    'Accept-Ranges': 'bytes',
  }

  const condition = evaluateConditions(headers, validators)
  if (condition === 'not-modified') return { status: 304, fields, body: [] }
  if (condition === 'failed') return withBody(412, fields, [])

  const asked = rangeApplies(headers, validators) ? headers.range : undefined
  const ranges = parseRanges(asked, size)
  if (ranges === 'unsatisfiable') {
    return withBody(416, { ...fields, 'Content-Range': `bytes */${size}` }, [])
  }
  if (ranges === 'whole') {
    return withBody(200, { ...fields, 'Content-Type': type }, [{ first: 0, last: size - 1 }])
  }
  const [only, second] = ranges
  if (only && !second) {
    const range = { 'Content-Type': type, 'Content-Range': contentRange(only, size) }
    return withBody(206, { ...fields, ...range }, [only])
  }
  const boundary = randomUUID()
  const multipart = { 'Content-Type': `multipart/byteranges; boundary=${boundary}` }
  return withBody(206, { ...fields, ...multipart }, multipartBody(ranges, size, type, boundary))
}

function withBody(
  status: Answer['status'],
  fields: Answer['fields'],
  body: readonly BodyPart[],
): Answer {
  return { status, fields: { ...fields, 'Content-Length': bodyLength(body) }, body }
}

function contentRange({ first, last }: Range, size: number): string {
  return `bytes ${first}-${last}/${size}`
}

/** [RFC 9110 §14.6] */
function multipartBody(
  ranges: readonly Range[],
  size: number,
  type: string,
  boundary: string,
): BodyPart[] {
  const parts = ranges.flatMap((range): BodyPart[] => [
    Buffer.from(
      `\r\n--${boundary}\r\nContent-Type: ${type}\r\n` +
        `Content-Range: ${contentRange(range, size)}\r\n\r\n`,
    ),
    range,
  ])
  return [...parts, Buffer.from(`\r\n--${boundary}--\r\n`)]
}
