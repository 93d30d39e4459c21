// Which hosts the page takes for its own. The parser of URLs says how a browser reads the same text.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isOwnHost } from '../../src/page/host.ts'

const names = new Set(['boot.home.arpa'])

/** The name that a browser resolves: the standard's own parser of URLs. */
function browserName(host: string): string | undefined {
  return URL.parse(`http://${host}/`)?.hostname.replace(/\.$/, '')
}

function isOwnName(name: string | undefined, local: string): boolean {
  if (name === undefined) return false
  return name === 'localhost' || name.endsWith('.localhost') || names.has(name) || name === local
}

test('a host is our own only if a browser takes it for one of our names', () => {
  const parts = ['localhost', '127.0.0.1', 'boot.home.arpa', 'evil.example', '::1', '1', '0x7f']
  const signs = ['.', ':', '[', ']', '@', '/', '#', '?', '\\', ' ', '%2e', ',', ':80', '\t', 'ł']
  const host = fc.array(fc.constantFrom(...parts, ...signs), { maxLength: 5 })
  let own = 0
  fc.assert(
    fc.property(host, (texts) => {
      const text = texts.join('')
      if (!isOwnHost(text, '127.0.0.1', names)) return
      own++
      assert.ok(isOwnName(browserName(text), '127.0.0.1'), text)
    }),
    { numRuns: 20_000 },
  )
  assert.ok(own > 100)
})

test('an address is our own in each form that browsers send', () => {
  const local: [string, string][] = [
    ...([
      ['[::1]:8080', '::1'],
      ['[2001:db8::1]', '2001:db8:0:0::1'],
    ] as [string, string][]),
    ['10.0.0.1:8080', '::ffff:10.0.0.1'],
  ]
  for (const [host, address] of local) assert.ok(isOwnHost(host, address, names), host)
  assert.ok(!isOwnHost('[::1]', '::2', names))
  assert.ok(!isOwnHost('[10.0.0.1]', '10.0.0.1', names))
  assert.ok(!isOwnHost('10.0.0.1', '10.0.0.2', names))
  assert.ok(!isOwnHost(undefined, '10.0.0.1', names))
})
