// A cache with a certificate of a private authority, made by openssl. The same requests go through
// curl, because Nix uses curl.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createServer, type Server } from 'node:https'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { errnoOf } from '../../../src/errors.ts'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { httpTransport } from '../../../src/nix/stores/http-transport.ts'
import { openStore } from '../../../src/nix/stores/open.ts'
import { assertError } from '../../support/errors.ts'
import { inventPath } from '../../support/synthetic.ts'
import { temporaryDirectory } from '../../support/temporary.ts'

const directory = temporaryDirectory()
const file = (name: string) => join(directory, name)

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] })
}

/** An authority, and a key with a certificate of that authority for 127.0.0.1 only. */
function makeCertificates(): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const subject = (name: string) => ['-subj', `/CN=${name}`]
  openssl(
    'req',
    '-x509',
    ...key,
    ...subject('our authority'),
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  )
  openssl('req', ...key, ...subject('cache'), '-keyout', 'server.key', '-out', 'server.csr')
  writeFileSync(file('names'), 'subjectAltName = IP:127.0.0.1\n')
  const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names']
  openssl('x509', '-req', '-in', 'server.csr', ...by, '-days', '2', '-out', 'server.pem')
}

let server: Server
let port: number
let connections = 0
let answer: (request: IncomingMessage) => string = () => 'hello'

before(async () => {
  makeCertificates()
  const [key, cert] = [readFileSync(file('server.key')), readFileSync(file('server.pem'))]
  server = createServer({ key, cert }, (request, response) => response.end(answer(request)))
  server.on('connection', () => connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  port = address.port
})
after(() => {
  server.closeAllConnections()
  server.close()
})

async function get(env: NodeJS.ProcessEnv, host = '127.0.0.1'): Promise<unknown> {
  const url = `https://${host}:${port}`
  const transport = httpTransport(new URL(url), url, {
    authorize: () => Promise.resolve({}),
    accessHint: () => '',
    warn: () => undefined,
    wait: () => assert.fail('it waits to try again'),
    env,
  })
  try {
    return await transport.text('file')
  } catch (error) {
    return error
  } finally {
    await transport.close()
  }
}

async function curl(env: NodeJS.ProcessEnv, host = '127.0.0.1'): Promise<unknown> {
  const args = ['--disable', '--silent', '--noproxy', '*', `https://${host}:${port}/file`]
  const child = spawn('curl', args, { env: { PATH: process.env['PATH'], ...env } })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const [status] = await once(child, 'close')
  return text || status
}

suite('a cache with a certificate of a private authority', () => {
  test('is not trusted without that authority, and gets no second request', async () => {
    connections = 0
    const error = await get({})
    assertError(error, 'store-unavailable', { url: `https://127.0.0.1:${port}/file` })
    assert.equal(errnoOf(error.cause), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
    assert.match(error.hint ?? '', /NIX_SSL_CERT_FILE/)
    assert.equal(connections, 1)
    assert.equal(await curl({}), 60)
  })

  for (const variable of ['NIX_SSL_CERT_FILE', 'SSL_CERT_FILE']) {
    test(`is trusted with the authority in ${variable}`, async () => {
      assert.equal(await get({ [variable]: file('ca.pem') }), 'hello')
      // curl has another variable than Nix.
      assert.equal(await curl({ SSL_CERT_FILE: file('ca.pem') }), 'hello')
    })
  }

  test('is trusted by NIX_SSL_CERT_FILE before other variables', async () => {
    const env = { NIX_SSL_CERT_FILE: file('ca.pem'), SSL_CERT_FILE: '/nowhere' }
    assert.equal(await get(env), 'hello')
  })

  test('is not trusted under another name', async () => {
    const env = { SSL_CERT_FILE: file('ca.pem') }
    const error = await get(env, 'localhost')
    assertError(error, 'store-unavailable', { url: `https://localhost:${port}/file` })
    assert.equal(errnoOf(error.cause), 'ERR_TLS_CERT_ALTNAME_INVALID')
    assert.equal(await curl(env, 'localhost'), 60)
  })

  test('with a missing file of certificates: an error that names the variable', async () => {
    const error = await get({ NIX_SSL_CERT_FILE: '/no-cert-file.crt' })
    assertError(error, 'file-system', {
      ...{ file: '/no-cert-file.crt', field: 'NIX_SSL_CERT_FILE' },
    })
    assert.match(error.hint ?? '', /NIX_SSL_CERT_FILE/)
    assert.equal(await curl({ SSL_CERT_FILE: '/no-cert-file.crt' }), 77)
  })

  for (const [what, text] of [
    ['nothing', ''],
    ['no certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'],
  ] as const) {
    test(`with a file of certificates with ${what}: an error`, async () => {
      writeFileSync(file('broken.pem'), text)
      const error = await get({ SSL_CERT_FILE: file('broken.pem') })
      assertError(error, 'bad-config', {
        ...{ file: file('broken.pem'), field: 'SSL_CERT_FILE' },
      })
    })
  }
})

test('a password for TLS does not go to the same host without TLS', async () => {
  const { createServer: createPlain } = await import('node:http')
  const seen: (string | undefined)[] = []
  const path = inventPath('uploaded')
  const proxy = createPlain(({ headers }, response) => {
    seen.push(headers.authorization)
    response.end('nar')
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const address = proxy.address()
  assert.ok(address !== null && typeof address === 'object')
  const narinfo = `StorePath: ${path}\nURL: http://127.0.0.1:${port}/x.nar\nCompression: none\nNarHash: sha256:${'0'.repeat(52)}\nNarSize: 3\n`
  const authorized: (string | undefined)[] = []
  answer = ({ url, headers }) => {
    authorized.push(headers.authorization)
    return url === '/nix-cache-info' ? 'StoreDir: /nix/store\n' : narinfo
  }
  writeFileSync(file('netrc'), 'machine 127.0.0.1 login alice password secret\n')
  // The proxy gets the requests without TLS.
  const http_proxy = `http://127.0.0.1:${address.port}`
  try {
    for (const login of ['alice:secret@', '']) {
      const store = await openStore(`https://${login}127.0.0.1:${port}`, {
        env: { NIX_SSL_CERT_FILE: file('ca.pem'), http_proxy },
        netrcFile: file('netrc'),
      })
      const wanted = toStorePath(path)
      const stored = wanted && (await store.lookup(wanted))
      const { signal } = new AbortController()
      await stored?.fetch({ scratch: directory, signal, downloaded: () => undefined })
      await store.close()
    }
    assert.deepEqual(seen, [undefined, undefined])
    assert.ok(authorized.every((header) => header?.startsWith('Basic ')))
  } finally {
    answer = () => 'hello'
    proxy.closeAllConnections()
    proxy.close()
  }
})

test('a server without TLS gets only one request', async () => {
  const { createServer: createPlain } = await import('node:http')
  const plain = createPlain((_, response) => response.end('hello'))
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const address = plain.address()
  assert.ok(address !== null && typeof address === 'object')
  const before = port
  port = address.port
  try {
    assertError(await get({}), 'store-unavailable')
  } finally {
    port = before
    plain.close()
  }
})
