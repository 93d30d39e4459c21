// Configurations for a boot tree that is served over HTTP. Here the servers' own checks read them
// for any address; test/e2e boots machines with them.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { assertError } from '../support/errors.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { configure } from './configure.ts'

const directory = temporaryDirectory()
const range = '10.0.0.100-10.0.0.199'

test('no URL is written without --http', () => {
  for (const settings of [{}, { range }]) {
    assert.doesNotMatch(configure('dnsmasq', settings), /http:/i)
  }
  assert.doesNotMatch(configure('isc-kea', { range }), /http:/i)
})

test('iPXE and UEFI get URLs of the boot tree, by default at the server’s address', () => {
  for (const server of ['dnsmasq', 'isc-kea'] as const) {
    for (const [http, base] of [
      [true, 'http://10.0.0.5/'],
      ['http://web:8080/boot', 'http://web:8080/boot/'],
      ['http://web/boot/', 'http://web/boot/'],
    ] as const) {
      const urls = configure(server, { range, http }).match(/http:[^\s",]+/g) ?? []
      const files = ['boot.ipxe', 'bootx64.efi', 'bootaa64.efi']
      assert.deepEqual(
        urls,
        files.map((file) => base + file),
      )
    }
  }
})

test('an accepted address always gives a valid configuration', async () => {
  const characters = `a b 1 , : / . ? # @ % " ' = ; \\`.split(' ')
  const part = fc.string({ unit: fc.constantFrom(...characters, ' ', '\n') })
  const address = fc.oneof(
    fc.webUrl(),
    part.map((text) => `http://host/${text}`),
    part.map((text) => `http://${text}`),
    fc.string(),
  )
  const isTaken = (http: string) => {
    try {
      const settings = { range, http }
      const lines = configure('dnsmasq', settings).split('\n').length
      assert.equal(lines, configure('dnsmasq', { range, http: true }).split('\n').length)
      // Kea may refuse the address for its length.
      configure('isc-kea', settings)
      return true
    } catch (error) {
      assertError(error, 'bad-option')
      return false
    }
  }
  const each = characters.flatMap((one) => [`http://ho${one}st/`, `http://host/a${one}b`])
  const taken = [...each.filter(isTaken), ...fc.sample(address, 400).filter(isTaken).slice(0, 5)]
  assert.ok(taken.includes('http://hoast/') && taken.includes("http://host/a'b"))
  for (const http of taken) {
    const file = join(directory, 'configuration')
    writeFileSync(file, configure('dnsmasq', { range, http }))
    await runProgram(findProgram('dnsmasq'), ['--test', `--conf-file=${file}`])
    writeFileSync(file, configure('isc-kea', { range, http }))
    await runProgram(findProgram('kea-dhcp4'), ['-t', file])
  }
})
