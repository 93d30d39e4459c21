// Caches that need credentials: netrc files, credentials in the URL, and S3. No server gets the
// credentials of another server. Most tests read the cache in this process, as a build does.

import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { openStore, type OpenStoreOptions } from '../../../src/nix/stores/open.ts'
import { checkAwsSignature } from '../../support/aws-signature.ts'
import { assertError, netimageError } from '../../support/errors.ts'
import { startFakeCache, type CacheRequest, type FakeCache } from '../../support/fake-cache.ts'
import { failureOf, netimage, type Run } from '../../support/netimage.ts'
import { cacheFiles, inventSystem, makeKey } from '../../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'

const key = makeKey('private-1')
const { toplevel, kernel } = inventSystem('private', [], [key])
const paths = [toplevel, kernel]
const files = cacheFiles(paths)

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

type Setting = Workspace & { cache: FakeCache }

async function withCache(
  answers: Parameters<typeof startFakeCache>,
  action: (setting: Setting) => Promise<void>,
): Promise<void> {
  const workspace = makeWorkspace('credentials')
  const cache = await startFakeCache(...answers)
  try {
    await action({ ...workspace, cache })
  } finally {
    await cache.close()
    workspace.remove()
  }
}

/** Reads all files of the cache, in the order of a build. */
async function read(
  { directory }: Setting,
  from: string,
  options: OpenStoreOptions = {},
): Promise<void> {
  const store = await openStore(from, { env: {}, ...options })
  try {
    for (const cached of paths) {
      const wanted = toStorePath(cached.path)
      assert.ok(wanted)
      const stored = await store.lookup(wanted)
      assert.ok(stored, `the cache does not have ${wanted}`)
      const { signal } = new AbortController()
      const source = await stored.fetch({ scratch: directory, signal, downloaded: () => undefined })
      assert.ok(source.kind === 'file')
      assert.deepEqual(readFileSync(source.file), cached.file)
    }
  } finally {
    await store.close()
  }
}

/** Builds with the program itself. */
function build(
  { image, pool, directory }: Setting,
  from: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Promise<Run> {
  const command = ['build', toplevel.path, '--from', from, '-o', image, '--pool', pool, '--json']
  return netimage([...command, '--trusted-public-keys', key.publicKey, ...args], {
    cwd: directory,
    env,
  })
}

/** Accepts only requests with the right password. */
const guarded =
  (authorization: string) =>
  (request: CacheRequest, honest: { status: number }): { status: number } =>
    request.headers.authorization === authorization ? honest : { status: 401 }

const secret = 'wonder:land'
const open = basic(`alice:${secret}`)

suite('a cache with a password', { concurrency: 4 }, () => {
  test('refuses requests without a password', () =>
    withCache([files, { lie: guarded(open) }], async (setting) => {
      const run = await build(setting, setting.cache.url)
      assert.equal(run.status, 5)
      const { code, hint, details } = failureOf(run)
      assert.equal(code, 'not-allowed')
      assert.partialDeepStrictEqual(details, { path: toplevel.path, status: 401 })
      assert.match(hint ?? '', /machine 127\.0\.0\.1 login/)
      assert.deepEqual([...setting.outputs(), ...setting.leftovers()], [])
      const netrc = setting.path('netrc')
      writeFileSync(netrc, `machine 127.0.0.1 login alice password ${secret}\n`)
      const allowed = await build(setting, setting.cache.url, ['--netrc-file', netrc])
      assert.equal(allowed.status, 0, allowed.stderr)
    }))

  const netrcs = {
    'a netrc file': `machine other login eve password x\nmachine 127.0.0.1\n\tlogin alice\n\tpassword ${secret}\n`,
    'the default of a netrc file': `machine other login eve password x default login alice password ${secret}\n`,
    'a quoted password in a netrc file': `machine 127.0.0.1 login alice password "${secret}" # mine\n`,
  }
  for (const [what, text] of Object.entries(netrcs)) {
    test(`accepts ${what}`, () =>
      withCache([files, { lie: guarded(open) }], async (setting) => {
        const netrcFile = setting.path('netrc')
        writeFileSync(netrcFile, text)
        await read(setting, setting.cache.url, { netrcFile })
      }))
  }

  test('accepts the password of the URL, and no message shows it', () =>
    withCache([files, { lie: guarded(open) }], async (setting) => {
      const url = setting.cache.url.replace('//', `//alice:${encodeURIComponent(secret)}@`)
      const built = await build(setting, url)
      assert.equal(built.status, 0, built.stderr)
      const manifest = readFileSync(join(setting.image, 'nix-support/net-image.json'), 'utf8')
      assert.doesNotMatch(manifest, /alice|wonder/)

      const wrong = setting.cache.url.replace('//', '//alice:wrong-password@')
      const run = await build(setting, wrong, ['--force'])
      assert.equal(failureOf(run).code, 'not-allowed')
      assert.doesNotMatch(run.stdout + run.stderr, /alice|wrong-password/)
    }))

  test('accepts the login of the URL with its password from a netrc file', () =>
    withCache([files, { lie: guarded(open) }], async (setting) => {
      const netrcFile = setting.path('netrc')
      const machine = (login: string, password: string) =>
        `machine 127.0.0.1 login ${login} password ${password}\n`
      writeFileSync(netrcFile, machine('bob', 'x') + machine('alice', secret))
      const url = setting.cache.url.replace('//', '//alice@')
      await read(setting, url, { netrcFile })
    }))

  test('with invalid percent signs in the URL: an error without the password', () =>
    withCache([files, {}], async (setting) => {
      const url = setting.cache.url.replace('//', '//alice:wonder%zz@')
      const error = await read(setting, url).catch((error: unknown) => error)
      assertError(error, 'bad-store-url')
      assert.doesNotMatch(JSON.stringify([error.message, error]), /wonder/)
    }))

  test('with a missing netrc file: an error', () =>
    withCache([files, {}], async (setting) => {
      const netrcFile = '/nowhere/netrc'
      const failed = netimageError('file-system', { file: netrcFile })
      await assert.rejects(read(setting, setting.cache.url, { netrcFile }), failed)
    }))

  for (const how of ['netrc', 'url'] as const) {
    test(`redirects to another server, which does not get the password (${how})`, async () => {
      const other = await startFakeCache(files)
      // Another name of the same machine counts as another host.
      const elsewhere = other.url.replace('127.0.0.1', 'localhost')
      try {
        await withCache(
          [
            files,
            {
              lie(request, honest) {
                if (request.headers.authorization !== open) return { status: 401 }
                if (!request.name.startsWith('nar/')) return honest
                return { status: 302, headers: { location: `${elsewhere}/${request.name}` } }
              },
            },
          ],
          async (setting) => {
            const netrcFile = setting.path('netrc')
            writeFileSync(netrcFile, `machine 127.0.0.1 login alice password ${secret}\n`)
            const url = setting.cache.url.replace('//', `//alice:${encodeURIComponent(secret)}@`)
            if (how === 'url') await read(setting, url)
            else await read(setting, setting.cache.url, { netrcFile })
            assert.equal(other.requests.length, paths.length)
            for (const { headers } of other.requests) {
              assert.equal(headers.authorization, undefined)
              assert.doesNotMatch(JSON.stringify(headers), /alice|wonder|YWxpY2U/)
            }
          },
        )
      } finally {
        await other.close()
      }
    })
  }
})

suite('an S3 bucket', { concurrency: 4 }, () => {
  const secretAccessKey = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
  const accessKeyId = 'AKIAIOSFODNN7EXAMPLE'
  const inBucket = new Map([...files].map(([name, file]) => [`bucket/${name}`, file]))
  const at = ({ cache }: Setting, more = '') =>
    `s3://bucket?scheme=http&endpoint=${cache.host}&region=eu-west-7${more}`
  const target = (request: CacheRequest) => ({
    method: 'GET',
    target: `/${request.name}`,
    headers: request.headers,
  })

  test('is read without credentials if there are none', () =>
    withCache([inBucket, {}], async (setting) => {
      await read(setting, at(setting))
      for (const { headers } of setting.cache.requests) {
        assert.equal(headers.authorization, undefined)
      }
    }))

  test('is read with the credentials of the environment', () =>
    withCache([inBucket, {}], async (setting) => {
      const env = {
        ...{ AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
        AWS_SESSION_TOKEN: 'the-token',
      }
      const run = await build(setting, at(setting), [], env)
      assert.equal(run.status, 0, run.stderr)
      assert.equal(setting.cache.requests.length, 1 + 2 * paths.length)
      for (const request of setting.cache.requests) {
        const signature = checkAwsSignature(target(request), secretAccessKey)
        assert.deepEqual(
          { ...signature, date: undefined },
          { accessKeyId, region: 'eu-west-7', service: 's3', date: undefined },
        )
        assert.equal(request.headers['x-amz-security-token'], 'the-token')
      }
      const [request] = setting.cache.requests
      assert.ok(request)
      assert.throws(() => checkAwsSignature(target(request), 'another secret'), /does not fit/)
    }))

  const profiles = [
    ['default', '', {}],
    ['named', '&profile=ci', {}],
    ['named', '', { AWS_PROFILE: 'ci' }],
    // The URL takes precedence over the environment.
    ['named', '&profile=ci', { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'y' }],
  ] as const
  for (const [which, parameters, env] of profiles) {
    test(`is read with the ${which} profile (${parameters || Object.keys(env).join() || 'no names'})`, () =>
      withCache([inBucket, {}], async (setting) => {
        mkdirSync(setting.path('.aws'))
        const lines = (id: string, secret: string) =>
          `aws_access_key_id = ${id}\naws_secret_access_key=${secret}\n`
        writeFileSync(
          setting.path('.aws/credentials'),
          `# mine\n[default]\n${lines('DEFAULTID', 'default/secret')}\n[ci]\n${lines('CIID', 'ci/secret')}`,
        )
        const surroundings = { env: { HOME: setting.directory, ...env } }
        await read(setting, at(setting, parameters), surroundings)
        const [id, secret] =
          which === 'default' ? ['DEFAULTID', 'default/secret'] : ['CIID', 'ci/secret']
        for (const request of setting.cache.requests) {
          assert.equal(checkAwsSignature(target(request), secret).accessKeyId, id)
        }
      }))
  }

  test('with a missing profile: an error', () =>
    withCache([inBucket, {}], async (setting) => {
      const env = { HOME: setting.directory }
      const reading = read(setting, at(setting, '&profile=absent'), { env })
      await assert.rejects(reading, netimageError('not-allowed'))
    }))

  test('may be a folder of a bucket', () => {
    const below = new Map([...files].map(([name, file]) => [`bucket/a/b/${name}`, file]))
    return withCache([below, {}], async (setting) => {
      const url = at(setting).replace('//bucket', '//bucket/a/b')
      await read(setting, url)
    })
  })

  test('redirects to another server, which does not get the token and signature', async () => {
    const other = await startFakeCache(files)
    const elsewhere = other.url.replace('127.0.0.1', 'localhost')
    try {
      await withCache(
        [
          inBucket,
          {
            lie: ({ name }, honest) =>
              name.includes('/nar/')
                ? { status: 307, headers: { location: `${elsewhere}/${name.slice(7)}` } }
                : honest,
          },
        ],
        async (setting) => {
          const env = {
            ...{ AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
            AWS_SESSION_TOKEN: 'the-token',
          }
          await read(setting, at(setting), { env })
          assert.equal(other.requests.length, paths.length)
          for (const { headers } of other.requests) {
            assert.equal(headers.authorization, undefined)
            assert.doesNotMatch(JSON.stringify(headers), /the-token|AKIA/)
          }
        },
      )
    } finally {
      await other.close()
    }
  })

  test('with an invalid endpoint: an error', () =>
    withCache([inBucket, {}], async (setting) => {
      for (const parameters of ['endpoint=%20&scheme=http', 'scheme=gopher', 'endpoint=%5B']) {
        const url = `s3://bucket?${parameters}`
        await assert.rejects(read(setting, url), netimageError('bad-store-url', { store: url }))
      }
    }))
})

test('a directory cache that this user may not read: not-allowed', async () => {
  const workspace = makeWorkspace('unreadable')
  try {
    const cache = workspace.path('cache')
    mkdirSync(cache)
    for (const [name, file] of files) {
      if (!name.includes('/')) writeFileSync(join(cache, name), file)
    }
    const narinfo = `${toplevel.path.slice(11, 43)}.narinfo`
    chmodSync(join(cache, narinfo), 0)
    // Root can read everything, so drop that right.
    const through =
      process.geteuid?.() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []
    const run = await netimage(
      ['build', toplevel.path, '--from', `file://${cache}`, '-o', workspace.image, '--json'],
      { cwd: workspace.directory, through },
    )
    assert.equal(failureOf(run).code, 'not-allowed', run.stderr)
    assert.equal(run.status, 5)
  } finally {
    workspace.remove()
  }
})
