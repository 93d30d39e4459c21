// Real cases of S3: buckets with dots, regions in China, profiles, and buckets that we may not
// list.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { inspect } from 'node:util'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { openStore } from '../../../src/nix/stores/open.ts'
import { bucketUrl } from '../../../src/nix/stores/s3.ts'
import type { Store } from '../../../src/nix/stores/store.ts'
import { checkAwsSignature } from '../../support/aws-signature.ts'
import { assertError, netimageError } from '../../support/errors.ts'
import { startFakeCache, type CacheRequest, type Lie } from '../../support/fake-cache.ts'
import { assertGone } from '../../support/processes.ts'
import { cacheFiles, inventPath, inventSystem, makeKey } from '../../support/synthetic.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitFor, waitUntil } from '../../support/waiting.ts'

const { toplevel } = inventSystem('s3', [], [makeKey('s3-1')])
const inBucket = new Map(
  [...cacheFiles([toplevel])].map(([name, file]) => [`bucket/${name}`, file]),
)

test('the address of a bucket is that of Amazon', () => {
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html, and for China
  // https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html; with dots as
  // src/libstore/s3-url.cc of Nix.
  const urls: Record<string, string> = {
    's3://bucket': 'https://bucket.s3.eu-west-1.amazonaws.com/',
    's3://bucket/a/b/': 'https://bucket.s3.eu-west-1.amazonaws.com/a/b/',
    's3://nix-cache.example.org': 'https://s3.eu-west-1.amazonaws.com/nix-cache.example.org/',
    's3://nix.example/a': 'https://s3.eu-west-1.amazonaws.com/nix.example/a/',
    's3://bucket?endpoint=minio:9000&scheme=http': 'http://minio:9000/bucket/',
  }
  for (const [store, url] of Object.entries(urls)) {
    assert.equal(bucketUrl(new URL(store), 'eu-west-1').href, url)
  }
  const inChina = bucketUrl(new URL('s3://bucket'), 'cn-north-1')
  assert.equal(inChina.href, 'https://bucket.s3.cn-north-1.amazonaws.com.cn/')
})

test('no message shows the login of a URL', async () => {
  const url = 's3://key:secret@bucket?scheme=http&endpoint='
  const store = await openStore(`${url}127.0.0.1:9`, { env: {} })
  assert.equal(store.url, 's3://bucket?scheme=http&endpoint=127.0.0.1:9')
  await store.close()
  const error = await openStore(`${url}%20`, { env: {} }).catch((error: unknown) => error)
  assertError(error, 'bad-store-url')
  assert.doesNotMatch(inspect(error, { depth: 0 }) + JSON.stringify(error), /secret/)
})

interface Setting {
  home: string
  requests: CacheRequest[]
  open: (parameters?: string, env?: NodeJS.ProcessEnv, signal?: AbortSignal) => Promise<Store>
  lookup: (
    parameters?: string,
    env?: NodeJS.ProcessEnv,
    path?: string,
    signal?: AbortSignal,
  ) => Promise<string>
}

async function withBucket(lie: Lie, action: (setting: Setting) => Promise<void>): Promise<void> {
  const cache = await startFakeCache(inBucket, { lie })
  const home = temporaryDirectory()
  mkdirSync(join(home, '.aws'))
  const open: Setting['open'] = (parameters = '', env = {}, signal) =>
    openStore(`s3://bucket?scheme=http&endpoint=${cache.host}&region=eu-west-7${parameters}`, {
      env: { PATH: process.env['PATH'], HOME: home, ...env },
      ...(signal && { signal }),
    })
  try {
    await action({
      home,
      requests: cache.requests,
      open,
      async lookup(parameters, env, path = toplevel.path, signal) {
        const store = await open(parameters, env, signal)
        try {
          const wanted = toStorePath(path)
          assert.ok(wanted)
          return (await store.lookup(wanted)) ? 'there' : 'not there'
        } finally {
          await store.close()
        }
      },
    })
  } finally {
    await cache.close()
  }
}

const honestly: Lie = (_, honest) => honest

function signerOf(request: CacheRequest | undefined, secret: string): string {
  assert.ok(request)
  const { name, headers } = request
  return checkAwsSignature({ method: 'GET', target: `/${name}`, headers }, secret).accessKeyId
}

suite('credentials', { concurrency: 4 }, () => {
  const keys = (id: string) => `aws_access_key_id = ${id}\naws_secret_access_key = of-${id}\n`

  /** The files, the profile in the URL, the environment, and the expected key. */
  const cases: Record<
    string,
    { config?: string; credentials?: string; url?: string; env?: NodeJS.ProcessEnv; signer: string }
  > = {
    'the default of the config': { config: `[default]\n${keys('A')}`, signer: 'A' },
    'a profile of the config': { config: `[profile ci]\n${keys('A')}`, url: 'ci', signer: 'A' },
    'AWS_PROFILE in the config': {
      config: `[default]\n${keys('A')}[profile ci]\n${keys('B')}`,
      env: { AWS_PROFILE: 'ci' },
      signer: 'B',
    },
    'the file of credentials before the config': {
      config: `[default]\n${keys('A')}`,
      credentials: `[default]\n${keys('B')}`,
      signer: 'B',
    },
    'nothing from a section that is not a profile': {
      config: `[sso-session default]\n${keys('A')}[services x]\n${keys('B')}[default]\n${keys('C')}`,
      signer: 'C',
    },
    'nothing from nested values': {
      config: `[default]\n${keys('A')}s3 =\n  aws_access_key_id = B\n`,
      signer: 'A',
    },
    'files that the environment names': {
      env: { AWS_CONFIG_FILE: 'HOME/other' },
      signer: 'O',
    },
  }
  for (const [what, { config, credentials, url, env = {}, signer }] of Object.entries(cases)) {
    test(`are ${what}`, () =>
      withBucket(honestly, async ({ home, requests, lookup }) => {
        if (config) writeFileSync(join(home, '.aws/config'), config)
        if (credentials) writeFileSync(join(home, '.aws/credentials'), credentials)
        writeFileSync(join(home, 'other'), `[default]\n${keys('O')}`)
        const named = Object.entries(env).map(([key, value]) => [key, value?.replace('HOME', home)])
        await lookup(url ? `&profile=${url}` : '', Object.fromEntries(named))
        assert.equal(signerOf(requests[0], `of-${signer}`), signer)
      }))
  }

  /** A program for `credential_process` that counts its runs. */
  function makeProcess(home: string, output: object): string {
    writeFileSync(join(home, 'output'), JSON.stringify(output))
    writeFileSync(join(home, 'runs'), '')
    return `[default]\ncredential_process = echo x >> "${home}/runs"; cat '${home}/output'\n`
  }
  const runs = (home: string) => readFileSync(join(home, 'runs'), 'utf8').split('x').length - 1
  const output = { Version: 1, AccessKeyId: 'P', SecretAccessKey: 'of-P', SessionToken: 'token' }

  test('come from the output of a program', () =>
    withBucket(honestly, async ({ home, requests, lookup }) => {
      writeFileSync(join(home, '.aws/config'), makeProcess(home, output))
      assert.equal(await lookup(), 'there')
      assert.equal(signerOf(requests[0], 'of-P'), 'P')
      assert.equal(requests[0]?.headers['x-amz-security-token'], 'token')
      assert.equal(runs(home), 1)
    }))

  test('are renewed before they expire', () =>
    withBucket(honestly, async ({ home, requests, lookup }) => {
      const Expiration = new Date(Date.now() - 1000).toISOString()
      writeFileSync(join(home, '.aws/config'), makeProcess(home, { ...output, Expiration }))
      await lookup()
      assert.equal(runs(home), 1 + requests.length)
    }))

  test('are renewed once for many requests at the same time', () =>
    withBucket(honestly, async ({ home, open }) => {
      const Expiration = new Date(Date.now() - 1000).toISOString()
      writeFileSync(join(home, '.aws/config'), makeProcess(home, { ...output, Expiration }))
      const wanted = toStorePath(toplevel.path)
      assert.ok(wanted)
      const store = await open()
      await store.lookup(wanted)
      const before = runs(home)
      await Promise.all(Array.from({ length: 20 }, () => store.lookup(wanted)))
      assert.equal(runs(home), before + 1)
      await store.close()
    }))

  const broken: Record<string, string> = {
    'that fails': `cat "$HOME/secret"; echo so it is >&2; exit 3`,
    'that does not print JSON': 'echo a-secret',
    'that prints something else': `echo '{"Version":2,"AccessKeyId":"a-secret"}'`,
    'that prints without end': 'while :; do echo a-secret; done',
  }
  const reasons: Record<string, RegExp> = {
    'that fails': /status 3: so it is/,
    'that prints without end': /more than 65536 bytes/,
  }
  for (const [what, command] of Object.entries(broken)) {
    test(`from a program ${what}: an error`, () =>
      withBucket(honestly, async ({ home, lookup }) => {
        writeFileSync(join(home, '.aws/config'), `[default]\ncredential_process = ${command}\n`)
        writeFileSync(join(home, 'secret'), 'hidden')
        const error = await lookup().catch((error: unknown) => error)
        assertError(error, 'not-allowed', reasons[what] ?? /version 1/)
        assert.doesNotMatch(error.message, /a-secret/)
        // As the log of a library's user shows the error, with its causes and their properties.
        assert.doesNotMatch(inspect(error), /hidden/)
      }))
  }

  for (const [what, before] of [
    ['', ''],
    [' and does not listen to SIGTERM', `trap '' TERM; `],
  ] as const) {
    test(`from a program that runs for ever${what}: Ctrl-C ends it with all that it started`, () =>
      withBucket(honestly, async ({ home, lookup }) => {
        const pids = join(home, 'pids')
        const command = `${before}(sleep 1000; true) & echo $! $$ > ${pids}.new; mv ${pids}.new ${pids}; wait; sleep 1000`
        writeFileSync(join(home, '.aws/config'), `[default]\ncredential_process = ${command}\n`)
        const abort = new AbortController()
        const looking = assert.rejects(lookup('', {}, undefined, abort.signal), {
          code: 'interrupted',
        })
        await waitUntil('the program runs', () => existsSync(pids))
        abort.abort()
        await waitFor('the lookup ends', looking)
        for (const pid of readFileSync(pids, 'utf8').trim().split(' '))
          await assertGone(Number(pid))
      }))
  }

  test('from SSO: an error that names the aws program', () =>
    withBucket(honestly, async ({ home, lookup }) => {
      writeFileSync(join(home, '.aws/config'), '[profile sso]\nsso_session = mine\n')
      const error = await lookup('&profile=sso').catch((error: unknown) => error)
      assertError(error, 'not-allowed')
      assert.match(error.hint ?? '', /aws configure export-credentials/)
    }))
})

suite('a bucket that answers 403', () => {
  // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
  const refusal = (code: string) => ({
    status: 403,
    headers: { 'content-type': 'application/xml' },
    body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>No</Message></Error>`,
  })
  const gone = inventPath('gone')
  const awsNotNetrc = (error: unknown): true => {
    assertError(error, 'not-allowed', { status: 403 })
    assert.match(error.hint ?? '', /AWS_ACCESS_KEY_ID/)
    assert.doesNotMatch(error.hint ?? '', /netrc/)
    return true
  }

  test('for a missing file does not have that file', () =>
    withBucket(
      (_, honest) => (honest.status === 404 ? refusal('AccessDenied') : honest),
      async ({ lookup }) => {
        assert.equal(await lookup('', {}, gone), 'not there')
        assert.equal(await lookup(), 'there')
      },
    ))

  test('for everything needs credentials for AWS', () =>
    withBucket(
      () => refusal('AccessDenied'),
      ({ lookup }) => assert.rejects(lookup(), awsNotNetrc),
    ))

  for (const code of ['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'RequestTimeTooSkewed']) {
    test(`with the code ${code} needs other credentials`, () =>
      withBucket(
        ({ name }, honest) => (name.endsWith('.narinfo') ? refusal(code) : honest),
        ({ lookup }) => assert.rejects(lookup(), awsNotNetrc),
      ))
  }

  test('does not change the meaning of 404 and 500', () =>
    withBucket(
      ({ name }, honest) => (name.endsWith('.narinfo') ? { status: 400 } : honest),
      ({ lookup }) => assert.rejects(lookup(), netimageError('store-unavailable', { status: 400 })),
    ))
})
