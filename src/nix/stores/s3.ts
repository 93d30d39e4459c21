/**
 * A binary cache in an S3 bucket: `s3://bucket?region=…&endpoint=…&scheme=…&profile=…`, with the
 * parameters that Nix knows. Requests are signed where this machine has credentials.
 *
 * https://nix.dev/manual/nix/latest/store/types/s3-binary-cache-store
 */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import type { Transport } from './binary-cache.ts'
import { httpTransport } from './http-transport.ts'

interface S3Credentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
}

export async function s3Transport(
  url: URL,
  shownUrl: string,
  env: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Transport> {
  const parameters = url.searchParams
  const region = parameters.get('region') ?? env['AWS_REGION'] ?? 'us-east-1'
  const base = bucketUrl(url, region)
  const credentials = await findCredentials(parameters.get('profile') ?? undefined, env)
  const signer = credentials && (await createSigner(credentials, region))
  return httpTransport(base, shownUrl, {
    signal,
    authorize: async (target) => {
      // A redirect's target on another host gets no signature of ours.
      if (!signer || target.host !== base.host) return {}
      return await signer(target)
    },
  })
}

/** A bucket of an endpoint of one's own is a folder of it; one of Amazon's is a host. */
function bucketUrl(url: URL, region: string): URL {
  const scheme = url.searchParams.get('scheme') ?? 'https'
  const endpoint = url.searchParams.get('endpoint')
  const prefix = url.pathname.replace(/\/+$/, '')
  try {
    if (scheme !== 'http' && scheme !== 'https') throw new Error(`the scheme ${scheme}`)
    if (!endpoint) return new URL(`${scheme}://${url.host}.s3.${region}.amazonaws.com${prefix}/`)
    const server = /^https?:\/\//.test(endpoint) ? endpoint : `${scheme}://${endpoint}`
    return new URL(`${server.replace(/\/+$/, '')}/${url.host}${prefix}/`)
  } catch (error) {
    throw new NetimageError('bad-store-url', `${url.href} leads to no S3 endpoint`, {
      cause: error,
      hint: 'As in Nix: s3://bucket?region=eu-west-1, or with endpoint=host:port and scheme=http.',
    })
  }
}

async function createSigner(credentials: S3Credentials, region: string) {
  // Loaded only where something is signed.
  const { AwsClient } = await import('aws4fetch')
  const client = new AwsClient({ ...credentials, service: 's3', region })
  return async (url: URL): Promise<Record<string, string>> => {
    const signed = await client.sign(url.href)
    return Object.fromEntries(signed.headers)
  }
}

async function findCredentials(
  profile: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<S3Credentials | undefined> {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = env
  if (profile === undefined && id && secret) return credentialsOf(id, secret, token)
  const file = env['AWS_SHARED_CREDENTIALS_FILE'] ?? join(homedir(), '.aws', 'credentials')
  const name = profile ?? env['AWS_PROFILE'] ?? 'default'
  const section = readSection(await readIfThere(file), name)
  const found = section.get('aws_access_key_id')
  const foundSecret = section.get('aws_secret_access_key')
  if (found && foundSecret) {
    return credentialsOf(found, foundSecret, section.get('aws_session_token'))
  }
  if (profile === undefined) return undefined
  throw new NetimageError('not-allowed', `${file} has no credentials for the profile ${profile}`, {
    hint: 'Add the profile, or leave profile= out of the URL.',
  })
}

function credentialsOf(id: string, secret: string, token: string | undefined): S3Credentials {
  return { accessKeyId: id, secretAccessKey: secret, ...(token && { sessionToken: token }) }
}

async function readIfThere(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw fileSystemError(`could not read the credentials ${file}`, error)
  }
}

/** `[name]`, then `key = value` lines. */
function readSection(text: string, name: string): Map<string, string> {
  const values = new Map<string, string>()
  let inside = false
  for (const line of text.split(/\r?\n/)) {
    const header = /^\s*\[(?:profile\s+)?([^\]]+)\]/.exec(line)
    if (header) inside = header[1]?.trim() === name
    const [, key, value] = /^\s*([A-Za-z0-9_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
    if (inside && key !== undefined && value !== undefined) values.set(key, value)
  }
  return values
}
