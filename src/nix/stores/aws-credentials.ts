/**
 * Credentials for AWS: from the environment, a profile, or a program that a profile names. For all
 * other ways (SSO, roles, machines at Amazon) the `aws` program must export the credentials,
 * because Amazon's own library for them has 24 packages with 16 MB.
 *
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { homeDirectory } from '../../home.ts'
import { runCredentialProcess } from './credential-process.ts'

export interface AwsCredentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
  /** In milliseconds since 1970; undefined if the credentials do not expire. */
  expires?: number
}

export const awsHint =
  'Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile with keys or a credential_process; for SSO and roles first run: eval "$(aws configure export-credentials --format env)"'

/**
 * @param profile the profile in the store's URL. It takes precedence over the environment
 * @param signal ends a program that the profile names
 * @returns undefined if there are no credentials; then requests are anonymous
 */
export async function findAwsCredentials(
  profile: string | undefined,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<AwsCredentials | undefined> {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = env
  if (profile === undefined && id && secret) return credentialsOf(id, secret, token)
  const asked = profile ?? env['AWS_PROFILE']
  const found = await ofProfile(await readProfile(asked ?? 'default', env), env, signal)
  if (found || !asked) return found
  throw new NetimageError('not-allowed', `no credentials were found in the AWS profile ${asked}`, {
    hint: awsHint,
  })
}

async function ofProfile(
  profile: ReadonlyMap<string, string>,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<AwsCredentials | undefined> {
  const id = profile.get('aws_access_key_id')
  const secret = profile.get('aws_secret_access_key')
  if (id && secret) return credentialsOf(id, secret, profile.get('aws_session_token'))
  const command = profile.get('credential_process')
  if (!command) return undefined
  const output = await runCredentialProcess(command, env, signal)
  return {
    ...credentialsOf(output.AccessKeyId, output.SecretAccessKey, output.SessionToken),
    ...(output.Expiration !== undefined && { expires: Date.parse(output.Expiration) }),
  }
}

function credentialsOf(id: string, secret: string, token: string | undefined): AwsCredentials {
  return { accessKeyId: id, secretAccessKey: secret, ...(token && { sessionToken: token }) }
}

/** What both files say of a profile; the file of credentials counts before the other. */
async function readProfile(name: string, env: NodeJS.ProcessEnv): Promise<Map<string, string>> {
  const home = env['HOME'] || homeDirectory()
  const read = async (variable: string, file: string) => {
    const place = env[variable] || (home && join(home, '.aws', file))
    return place ? await readIfThere(place) : ''
  }
  const config = await read('AWS_CONFIG_FILE', 'config')
  const credentials = await read('AWS_SHARED_CREDENTIALS_FILE', 'credentials')
  const heading = name === 'default' ? ['default', 'profile default'] : [`profile ${name}`]
  return new Map([...readSection(config, heading), ...readSection(credentials, [name])])
}

async function readIfThere(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw fileSystemError(`could not read the credentials ${file}`, error)
  }
}

/** `[heading]`, then `key = value` lines. Indented lines belong to nested values; we skip them. */
function readSection(text: string, headings: readonly string[]): Map<string, string> {
  const values = new Map<string, string>()
  let inside = false
  for (const line of text.split(/\r?\n/)) {
    const [, heading] = /^\s*\[([^\]]+)\]/.exec(line) ?? []
    if (heading !== undefined) inside = headings.includes(heading.trim().replace(/\s+/g, ' '))
    const [, key, value] = /^([A-Za-z0-9_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
    if (inside && key !== undefined && value !== undefined) values.set(key, value)
  }
  return values
}
