// Compares with curl, because Nix makes its requests with curl.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { httpTransport } from '../../../src/nix/stores/http-transport.ts'
import { proxyFor } from '../../../src/nix/stores/proxy.ts'
import { assertError, netimageError } from '../../support/errors.ts'

/** A proxy that answers with the request that it got, and the address of a dead proxy. */
let proxy: Server
let at: string
const dead = 'http://127.0.0.1:9'

before(async () => {
  proxy = createServer((request, response) => {
    const who = request.headers['proxy-authorization'] ?? 'nobody'
    response.end(request.url?.startsWith('http:') ? `proxy ${request.url} ${who}` : 'direct')
  })
  // A request for a tunnel also shows that the client uses the proxy.
  proxy.on('connect', (_, socket) => socket.end('HTTP/1.1 502 A proxy\r\n\r\n'))
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const address = proxy.address()
  assert.ok(address !== null && typeof address === 'object')
  at = `127.0.0.1:${address.port}`
})
after(() => {
  proxy.closeAllConnections()
  proxy.close()
})

/** The answer that curl gets, or its failure. */
async function byCurl(url: string, env: Record<string, string>): Promise<string> {
  const args = ['--disable', '--silent', '--max-time', '900', url]
  const child = spawn('curl', args, { env: { PATH: process.env['PATH'], ...env } })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const [status] = await once(child, 'close')
  return status === 0 ? text : 'failed'
}

async function byUs(url: string, env: Record<string, string>): Promise<string> {
  try {
    return (await ask(url, env)) ?? 'absent'
  } catch (error) {
    netimageError('store-unavailable')(error)
    return 'failed'
  }
}

async function ask(url: string, env: Record<string, string>): Promise<string | undefined> {
  const { origin, pathname } = new URL(url)
  const transport = httpTransport(new URL(origin), origin, {
    authorize: () => Promise.resolve({}),
    accessHint: () => '',
    warn: () => undefined,
    wait: () => Promise.resolve(),
    env,
  })
  try {
    return await transport.text(pathname.slice(1))
  } finally {
    await transport.close()
  }
}

const direct = () => `http://${at}/file`
const elsewhere = () => 'http://cache.example/file'

/** The environment and the expected answer. */
const cases: Record<
  string,
  [url: () => string, env: () => Record<string, string>, answer: RegExp]
> = {
  'no proxy': [direct, () => ({}), /^direct/],
  http_proxy: [elsewhere, () => ({ http_proxy: `http://${at}` }), /^proxy http:\/\/cache/],
  'no scheme': [elsewhere, () => ({ http_proxy: at }), /^proxy/],
  'a slash at the end': [elsewhere, () => ({ http_proxy: `http://${at}/` }), /^proxy/],
  'a user': [elsewhere, () => ({ http_proxy: `http://me:pass%20word@${at}` }), / Basic /],
  'a user, and no scheme': [elsewhere, () => ({ http_proxy: `me:secret@${at}` }), / Basic /],
  all_proxy: [elsewhere, () => ({ all_proxy: at }), /^proxy/],
  ALL_PROXY: [elsewhere, () => ({ ALL_PROXY: at }), /^proxy/],
  'http_proxy before all_proxy': [elsewhere, () => ({ http_proxy: at, all_proxy: dead }), /^proxy/],
  'an empty http_proxy': [elsewhere, () => ({ http_proxy: '', all_proxy: at }), /^proxy/],
  'HTTP_PROXY, which a web server may set': [direct, () => ({ HTTP_PROXY: dead }), /^direct/],
  'https_proxy for http': [direct, () => ({ https_proxy: dead }), /^direct/],
  'a dead proxy': [direct, () => ({ http_proxy: dead }), /failed/],
}

/** Whether requests to 127.0.0.1, or to the named host, go direct. */
const exceptions: Record<string, [no_proxy: string, isException: boolean]> = {
  'the address': ['127.0.0.1', true],
  'another address': ['127.0.0.2', false],
  'a network': ['127.0.0.0/8', true],
  'a network among names': ['localhost,127.0.0.0/8', true],
  'another network': ['10.0.0.0/8', false],
  'a network of one': ['127.0.0.1/32', true],
  'a network that ends within an octet': ['127.64.0.0/9', true],
  'another network that does': ['127.128.0.0/9', false],
  'blanks and commas': [' example.org ,  127.0.0.1', true],
  'a star': ['*', true],
  'a star among others': ['example.org,*', false],
  'the end of an address': ['0.0.1', false],
  nothing: ['', false],
}

/** Names that curl resolves to the proxy. The proxy also answers direct requests. */
const names: Record<string, [host: string, no_proxy: string, isException: boolean]> = {
  'the name': ['localhost', 'localhost', true],
  'the name in capitals': ['localhost', 'LOCALHOST', true],
  'a dot before it': ['localhost', '.localhost', true],
  'a parent domain': ['cache.localhost', 'localhost', true],
  'a parent domain, with a dot': ['cache.localhost', '.localhost', true],
  'the end of a word': ['mylocalhost.localhost', 'host', false],
  'a dot after it': ['localhost', 'localhost.', true],
  'a subdomain': ['localhost', 'cache.localhost', false],
}

suite('the proxy is the same as that of curl', { concurrency: 4 }, () => {
  for (const [name, [url, env, answer]] of Object.entries(cases)) {
    test(name, async () => {
      const [ours, theirs] = await Promise.all([byUs(url(), env()), byCurl(url(), env())])
      assert.equal(ours, theirs)
      assert.match(ours, answer)
    })
  }

  for (const [name, [list, isException]] of Object.entries(exceptions)) {
    for (const variable of ['no_proxy', 'NO_PROXY']) {
      test(`${name} in ${variable}`, async () => {
        const env = { http_proxy: dead, [variable]: list }
        const [ours, theirs] = await Promise.all([byUs(direct(), env), byCurl(direct(), env)])
        assert.equal(ours, theirs)
        assert.equal(ours, isException ? 'direct' : 'failed')
      })
    }
  }

  for (const [name, [host, list, isException]] of Object.entries(names)) {
    test(`${name}: ${list} for ${host}`, async () => {
      const url = `http://${host}:${at.slice(at.indexOf(':') + 1)}/file`
      const env = { http_proxy: at, no_proxy: list }
      const theirs = await byCurl(url, env)
      assert.equal(proxyFor(new URL(url), env) === undefined, theirs === 'direct', theirs)
      assert.equal(theirs === 'direct', isException)
    })
  }

  test('for https', async () => {
    // Status 56 of curl means that the proxy refused a tunnel, so curl asked the proxy.
    for (const env of [{ https_proxy: at }, { HTTPS_PROXY: at }, { all_proxy: at }]) {
      const asked = once(proxy, 'connect')
      assert.equal(await byCurl('https://cache.example/x', env), 'failed')
      await asked
      const askedByUs = once(proxy, 'connect')
      assert.equal(await byUs('https://cache.example/x', env), 'failed')
      await askedByUs
    }
    assert.equal(proxyFor(new URL('https://cache.example'), { http_proxy: at }), undefined)
  })
})

suite('a proxy that refuses a request is asked only once', () => {
  let requests = 0
  let status = 407
  let refusing: Server
  let env: Record<string, string>

  before(async () => {
    refusing = createServer((_, response) => {
      requests++
      response.writeHead(status, { 'proxy-authenticate': 'Basic realm="x"' }).end()
    })
    refusing.on('connect', (_, socket) => {
      requests++
      socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`)
    })
    refusing.listen(0, '127.0.0.1')
    await once(refusing, 'listening')
    const address = refusing.address()
    assert.ok(address !== null && typeof address === 'object')
    const url = `http://127.0.0.1:${address.port}`
    env = { http_proxy: url, https_proxy: url }
  })
  after(() => {
    refusing.closeAllConnections()
    refusing.close()
  })

  for (const url of ['http://cache.example/x', 'https://cache.example/x']) {
    test(`and with 407 we ask for a user and a password: ${url}`, async () => {
      ;[requests, status] = [0, 407]
      const error = await ask(url, env).catch((error: unknown) => error)
      assertError(error, 'not-allowed', { url, status: 407 })
      assert.match(error.hint ?? '', /https_proxy.* http_proxy.*user:password@/)
      assert.equal(requests, 1)
      // curl gives up at once, too. Its status 56 means that the proxy refused the tunnel.
      const theirs = await byCurl(url, env)
      assert.equal(theirs, url.startsWith('https:') ? 'failed' : '')
      assert.equal(requests, 2)
    })
  }

  test('and with 403 for a tunnel we do not ask for a password', async () => {
    ;[requests, status] = [0, 403]
    const error = await ask('https://cache.example/x', env).catch((error: unknown) => error)
    assertError(error, 'not-allowed', { status: 403 })
    assert.match(error.hint ?? '', /no_proxy/)
    assert.equal(requests, 1)
  })
})

test('the default port of a proxy is that of curl', () => {
  const port = (http_proxy: string) => proxyFor(new URL(elsewhere()), { http_proxy })?.port
  assert.equal(port('http://proxy.example'), '1080')
  assert.equal(port('proxy.example'), '1080')
  assert.equal(port('http://me:80@proxy.example/'), '1080')
  // A URL object omits the default port of its scheme.
  assert.equal(port('http://proxy.example:80'), '')
  assert.equal(port('http://proxy.example:3128/'), '3128')
  assert.equal(port('https://proxy.example'), '')
})

test('networks of IPv6', () => {
  const env = (no_proxy: string) => ({ http_proxy: at, no_proxy })
  const target = new URL('http://[fd00::1]/')
  for (const list of ['fd00::/8', 'fd00::1', '[fd00::1]', 'localhost,fd00:0::0/64']) {
    assert.equal(proxyFor(target, env(list)), undefined, list)
  }
  for (const list of ['fe80::/10', 'fd00::2', '::/200', '0.0.0.0/0']) {
    assert.ok(proxyFor(target, env(list)), list)
  }
})

test('the error of an invalid proxy does not contain its password', () => {
  for (const http_proxy of [
    'http://',
    'gopher://me:secret@x',
    'http://me:secret@[',
    'http://me:secret/2@x:3128',
    'socks4://me:my@secret@x',
    'socks4://x',
  ]) {
    assert.throws(
      () => proxyFor(new URL(elsewhere()), { http_proxy }),
      (error: unknown) => {
        netimageError('bad-config')(error)
        assert.ok(error instanceof Error)
        assert.doesNotMatch(JSON.stringify([error.message, error]), /secret/)
        return true
      },
    )
  }
})
