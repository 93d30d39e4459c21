/**
 * A binary cache in an S3 bucket: `s3://bucket?region=…&endpoint=…&scheme=…&profile=…`, with the
 * parameters that Nix knows. Requests are signed where this machine has credentials.
 *
 * https://nix.dev/manual/nix/latest/store/types/s3-binary-cache-store
 */
import { NetimageError } from '../../errors.ts'
import { awsHint, findAwsCredentials, type AwsCredentials } from './aws-credentials.ts'
import type { Transport } from './binary-cache.ts'
import { httpTransport, type HttpSettings } from './http-transport.ts'

/** Credentials that end this soon are asked for anew. */
const expiryMarginMs = 60_000

export async function s3Transport(
  url: URL,
  shownUrl: string,
  settings: Pick<HttpSettings, 'env' | 'signal' | 'warn'>,
): Promise<Transport> {
  const { env } = settings
  const parameters = url.searchParams
  const region = parameters.get('region') ?? env['AWS_REGION'] ?? 'us-east-1'
  const base = bucketUrl(url, region)
  const find = () => findAwsCredentials(parameters.get('profile') ?? undefined, env)
  let credentials = await find()
  const sign = credentials && (await createSigner(region))
  return httpTransport(base, shownUrl, {
    ...settings,
    accessHint: () => awsHint,
    meansAbsent,
    authorize: async (target) => {
      // A redirect's target on another host gets no signature of ours.
      if (!credentials || !sign || target.host !== base.host) return {}
      if ((credentials.expires ?? Infinity) < Date.now() + expiryMarginMs) {
        credentials = (await find()) ?? credentials
      }
      return await sign(target, credentials)
    },
  })
}

/**
 * A bucket that may not be listed does not tell what it lacks from what it forbids. With credentials
 * that are wrong, S3 says so.
 */
function meansAbsent(body: string): boolean {
  const [, code] = /<Code>([^<]*)<\/Code>/.exec(body) ?? []
  return code === undefined || code === 'AccessDenied'
}

/**
 * A bucket is a folder of an endpoint of one's own, and a host below Amazon's. There its certificate
 * covers no names with dots in them, so such a bucket is a folder, too.
 *
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
 */
export function bucketUrl(url: URL, region: string): URL {
  const scheme = url.searchParams.get('scheme') ?? 'https'
  const endpoint = url.searchParams.get('endpoint')
  const bucket = url.host
  const prefix = url.pathname.replace(/\/+$/, '')
  try {
    if (scheme !== 'http' && scheme !== 'https') throw new Error(`the scheme ${scheme}`)
    if (!endpoint) {
      const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com'
      const host = `s3.${region}.${domain}`
      const place = bucket.includes('.') ? `${host}/${bucket}` : `${bucket}.${host}`
      return new URL(`${scheme}://${place}${prefix}/`)
    }
    const server = /^https?:\/\//.test(endpoint) ? endpoint : `${scheme}://${endpoint}`
    return new URL(`${server.replace(/\/+$/, '')}/${bucket}${prefix}/`)
  } catch (error) {
    throw new NetimageError('bad-store-url', `${url.href} leads to no S3 endpoint`, {
      cause: error,
      hint: 'As in Nix: s3://bucket?region=eu-west-1, or with endpoint=host:port and scheme=http.',
      details: { store: url.href },
    })
  }
}

async function createSigner(region: string) {
  // Loaded only if something is signed.
  const { AwsClient } = await import('aws4fetch')
  return async (url: URL, credentials: AwsCredentials): Promise<Record<string, string>> => {
    const { accessKeyId, secretAccessKey, sessionToken } = credentials
    const keys = { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) }
    const client = new AwsClient({ ...keys, service: 's3', region })
    const signed = await client.sign(url.href)
    return Object.fromEntries(signed.headers)
  }
}
