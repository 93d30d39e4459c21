// Who may read the page, how, and how much of the server it may take.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { suite, test } from 'node:test'
import { NetimageError } from '../../src/errors.ts'
import { startPage } from '../../src/page/page.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { openPage } from './support/open-page.ts'

const freshName = freshNames(temporaryDirectory())

suite('the server of the page', () => {
  test('gives curl a page that loads nothing from elsewhere', async (context) => {
    const { url } = await openPage(context, freshName())
    const shown = await runProgram(findProgram('curl'), ['-sfi', url])
    assert.match(shown, /^HTTP\/1\.1 200 /)
    assert.match(shown, /\ncontent-type: text\/html; charset=utf-8\r\n/i)
    assert.match(shown, /\ncontent-security-policy: default-src 'none'; script-src 'self'/i)
    assert.match(shown, /<!doctype html>/)
    assert.doesNotMatch(shown, /(?:src|href)="(?:https?:)?\/\//)
  })

  test('can only be read', async (context) => {
    const { ask } = await openPage(context, freshName())
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
      const { status, headers } = await ask('/api/machines', { method })
      assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], method)
    }
    const whole = await ask('/api/machines')
    const head = await ask('/api/machines', { method: 'HEAD' })
    assert.deepEqual([head.status, head.body], [200, ''])
    assert.equal(head.headers['content-length'], `${Buffer.byteLength(whole.body)}`)
    assert.equal(head.headers.etag, whole.headers.etag)
  })

  test('answers only those who name it as the person does, so that no web page reads it by DNS rebinding', async (context) => {
    const { ask, port } = await openPage(context, freshName(), undefined, {
      names: ['Boot.Home.Arpa'],
    })
    const own = [
      ...['127.0.0.1', `127.0.0.1:${port}`, 'localhost', `LOCALHOST:9`, 'page.localhost:80'],
      ...['boot.home.arpa', 'boot.home.arpa.:8080'],
    ]
    const foreign = [
      ...[
        'attacker.example',
        `attacker.example:${port}`,
        'localhost.attacker.example',
        'home.arpa',
      ],
      ...['10.0.0.1', '127.0.0.2', '[::1]', '127.0.0.1@attacker.example', 'local host', '[', ':80'],
      ...[
        'boot.home.arpa,attacker.example',
        'xn--localhost',
        'localhost:80:80',
        '2130706433',
        '0x7f.1',
      ],
    ]
    for (const host of own) {
      const { status } = await ask('/api/machines', { headers: { host } })
      assert.equal(status, 200, host)
    }
    for (const path of ['/', '/api/machines', '/metrics', '/api/events']) {
      for (const host of foreign) {
        const { status, body } = await ask(path, { headers: { host } })
        assert.ok(status === 403 || status === 400, `${host} ${status}`)
        assert.doesNotMatch(body, /"machines"/)
      }
    }
  })

  test('does not send an answer again that the browser has already', async (context) => {
    const { ask } = await openPage(context, freshName())
    for (const path of ['/', '/api/machines', '/api/groups', '/api/log', '/api/boots']) {
      const { headers } = await ask(path)
      const { etag } = headers
      assert.match(etag ?? '', /^"[\w-]{22}"$/, path)
      const again = await ask(path, { headers: { 'if-none-match': `"other", ${etag}` } })
      assert.deepEqual([again.status, again.body, again.headers.etag], [304, '', etag], path)
      const other = await ask(path, { headers: { 'if-none-match': '"other"' } })
      assert.equal(other.status, 200, path)
    }
  })

  test('ends connections that send what is not HTTP, too much, or nothing but more requests', async (context) => {
    const { port, ask } = await openPage(context, freshName())
    const hostile = [
      '\u0000\u0001\u0002\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\nConnection: close\r\n\r\n',
      'GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n',
      'GET / HTTP/1.0\r\n\r\n',
      `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`,
      'GET http:// HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'GET /%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'GET /api/machines/%2e%2e%2f%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'GET /../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'GET /api/__proto__ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'GET /api/machines HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1000),
    ]
    for (const bytes of hostile) {
      const socket = connect(port, '127.0.0.1')
      let answer = ''
      socket.on('data', (data: Buffer) => (answer += data.toString('latin1')))
      socket.on('error', () => {})
      socket.write(bytes)
      await once(socket, 'close')
      const lines = answer.match(/^HTTP\/1\.1 \d+/gm) ?? []
      assert.ok(lines.length <= 1, `${lines.length} answers`)
      assert.ok(!answer.includes('root:'), answer)
      if (!bytes.startsWith('GET /api/machines HTTP'))
        assert.match(answer, /^(HTTP\/1\.1 4\d\d |$)/)
    }
    assert.equal((await ask('/')).status, 200)
  })

  test('keeps a limited number of connections, and those of a browser come through', async (context) => {
    const { port, ask } = await openPage(context, freshName())
    const sockets = Array.from({ length: 100 }, () => connect(port, '127.0.0.1'))
    for (const socket of sockets) socket.on('error', () => {})
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    assert.equal((await ask('/')).status, 200)
    const open = sockets.filter((socket) => !socket.destroyed && !socket.readableEnded)
    assert.ok(open.length <= 64, `${open.length}`)
    for (const socket of sockets) socket.destroy()
  })

  test('tells why it cannot listen', async (context) => {
    const { port } = await openPage(context, freshName())
    const settings = {
      state: freshName(),
      names: [],
      boots: () => [],
      operations: () => ({}),
      onError: assert.ifError,
    }
    await assert.rejects(
      startPage({ ...settings, host: '127.0.0.1', port }),
      (error) => error instanceof NetimageError && error.code === 'cannot-listen',
    )
  })
})
