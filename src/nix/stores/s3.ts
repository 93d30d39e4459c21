/**
 * A binary cache in an S3 bucket: `s3://bucket?region=…&endpoint=…&scheme=…&profile=…`, with the
 * parameters of Nix. Requests are signed if this machine has credentials.
 *
 * https://nix.dev/manual/nix/latest/store/types/s3-binary-cache-store
 */
import { NetimageError } from '../../errors.ts'
import { awsHint, findAwsCredentials, type AwsCredentials } from './aws-credentials.ts'
import type { Transport } from './binary-cache.ts'
import { httpTransport, type HttpSettings } from './http-transport.ts'
import { withoutLogin } from './without-login.ts'

/** Ask for new credentials this long before the old ones expire. */
const expiryMarginMs = 60_000

export async function s3Transport(
  url: URL,
  shownUrl: string,
  settings: Pick<HttpSettings, 'env' | 'signal' | 'warn' | 'wait'>,
): Promise<Transport> {
  const { env, signal } = settings
  const parameters = url.searchParams
  const region = parameters.get('region') ?? env['AWS_REGION'] ?? 'us-east-1'
  const base = bucketUrl(url, region)
  const find = () => findAwsCredentials(parameters.get('profile') ?? undefined, env, signal)
  let credentials = await find()
  let renewal: ReturnType<typeof find> | undefined
  const sign = credentials && (await createSigner(region))
  return httpTransport(base, shownUrl, {
    ...settings,
    accessHint: () => awsHint,
    meansAbsent,
    authorize: async (target) => {
      // Do not sign requests to another server, to which a redirect or a narinfo may lead.
      if (!credentials || !sign || target.origin !== base.origin) return {}
      if ((credentials.expires ?? Infinity) < Date.now() + expiryMarginMs) {
        // Many requests run at once, so they share one run of the program.
        renewal ??= find().finally(() => (renewal = undefined))
        credentials = (await renewal) ?? credentials
      }
      return await sign(target, credentials)
    },
  })
}

/**
 * If we may not list a bucket, S3 answers 403 for missing files, too. If the credentials are wrong,
 * S3 sends another code.
 */
function meansAbsent(body: string): boolean {
  const [, code] = /<Code>([^<]*)<\/Code>/.exec(body) ?? []
  return code === undefined || code === 'AccessDenied'
}

/**
 * On a custom endpoint a bucket is a folder. At Amazon a bucket is a host of its own. But Amazon's
 * certificate does not cover bucket names with dots, so such a bucket is a folder there, too.
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
    const store = withoutLogin(url.href)
    throw new NetimageError('bad-store-url', `${store} does not name a valid S3 endpoint`, {
      cause: error,
      hint: 'Write the URL as in Nix: s3://bucket?region=eu-west-1, or with endpoint=host:port and scheme=http.',
      details: { store },
    })
  }
}

async function createSigner(region: string) {
  // Load this package only if requests are signed.
  const { AwsClient } = await import('aws4fetch')
  return async (url: URL, credentials: AwsCredentials): Promise<Record<string, string>> => {
    const { accessKeyId, secretAccessKey, sessionToken } = credentials
    const keys = { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) }
    const client = new AwsClient({ ...keys, service: 's3', region })
    const signed = await client.sign(url.href)
    return Object.fromEntries(signed.headers)
  }
}
