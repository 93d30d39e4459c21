// Servers of an image whose boot tree is served over HTTP. That machines boot so is shown in
// test/e2e; here the servers' own checks read what is written for any address.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { findProgram } from '../e2e/support/packages.ts'
import { assertError } from '../support/errors.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { configure } from './configure.ts'

const directory = temporaryDirectory()
const range = '10.0.0.100-10.0.0.199'

test('no URL is written where nobody says that there is HTTP', () => {
  for (const settings of [{}, { range }]) {
    assert.doesNotMatch(configure('dnsmasq', settings), /http:/i)
  }
  assert.doesNotMatch(configure('isc-kea', { range }), /http:/i)
})

test('iPXE and UEFI are given URLs of the boot tree, which is at the address by default', () => {
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

test('whatever is taken for an address leaves the configuration sound', async () => {
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
      // Which may refuse it for its length as well.
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
