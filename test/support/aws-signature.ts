// Checks AWS signatures of version 4 as a server does. Written from the protocol's documentation:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

import { createHash, createHmac } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

export type SignedRequest = {
  method: string
  /** The target of the request, with its query. */
  target: string
  headers: IncomingHttpHeaders
}

export type Signature = { accessKeyId: string; date: string; region: string; service: string }

/** The signer and the scope of a request. @throws if the signature does not match the secret */
export function checkAwsSignature(request: SignedRequest, secretAccessKey: string): Signature {
  const { authorization = '' } = request.headers
  const [, credential = '', signedHeaders = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    ) ?? []
  const [accessKeyId = '', date = '', region = '', service = '', end] = credential.split('/')
  if (end !== 'aws4_request') throw new Error(`This is no AWS signature: ${authorization}`)

  const header = (name: string) => String(request.headers[name] ?? '').trim()
  const [path = '', query = ''] = request.target.split('?')
  const canonical = [
    request.method,
    path,
    query.split('&').filter(Boolean).sort().join('&'),
    ...signedHeaders.split(';').map((name) => `${name}:${header(name)}`),
    '',
    signedHeaders,
    header('x-amz-content-sha256') || 'UNSIGNED-PAYLOAD',
  ].join('\n')
  const scope = `${date}/${region}/${service}/aws4_request`
  const digest = createHash('sha256').update(canonical).digest('hex')
  const toSign = ['AWS4-HMAC-SHA256', header('x-amz-date'), scope, digest].join('\n')
  const hmac = (key: string | Buffer, text: string) =>
    createHmac('sha256', key).update(text).digest()
  const signingKey = [date, region, service, 'aws4_request'].reduce<string | Buffer>(
    hmac,
    `AWS4${secretAccessKey}`,
  )
  const expected = hmac(signingKey, toSign).toString('hex')
  if (signature !== expected)
    throw new Error(`The signature does not fit this request:\n${canonical}`)
  for (const name of ['host', 'x-amz-date']) {
    if (!signedHeaders.split(';').includes(name)) throw new Error(`${name} is not signed`)
  }
  return { accessKeyId, date, region, service }
}
