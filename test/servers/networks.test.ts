// The networks and boot files in the servers' configurations.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { netimageError } from '../support/errors.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { configure } from './configure.ts'

const range = '10.0.0.100-10.0.0.199'
const directory = temporaryDirectory()

async function assertKea(text: string): Promise<void> {
  const file = join(directory, 'kea.conf')
  writeFileSync(file, text)
  await runProgram(findProgram('kea-dhcp4'), ['-t', file])
}

test('a range outside of the network, or with the server’s address, is refused', () => {
  const cases: [string, string | undefined][] = [
    ['192.168.1.100-192.168.1.199', undefined],
    ['10.0.0.100-10.0.1.199', undefined],
    ['10.0.1.100-10.0.1.199', '10.0.0.0/24'],
    // The server's own address.
    ['10.0.0.1-10.0.0.199', undefined],
  ]
  for (const [range, network] of cases) {
    for (const server of ['dnsmasq', 'isc-kea'] as const) {
      assert.throws(() => configure(server, { range, network }), netimageError('bad-option'))
    }
  }
  for (const server of ['dnsmasq', 'isc-kea'] as const) {
    assert.match(
      configure(server, { range: '10.0.1.100-10.0.1.199', network: '10.0.0.0/16' }),
      /10\.0\.1\.100/,
    )
  }
})

test('iPXE in ROM gets a loader if the image has no script', async () => {
  const without = configure('isc-kea', { range }, ['pxelinux.0', 'bootx64.efi', 'bootaa64.efi'])
  assert.doesNotMatch(without, /iPXE/)
  await assertKea(without)
  const all = configure('isc-kea', { range }, ['boot.ipxe', 'undionly.kpxe', 'config.txt'])
  assert.match(all, /not \(option\[77\]\.hex == 'iPXE'\)/)
  await assertKea(all)
})

test('a boot file with a name too long for Kea is refused', async () => {
  const longest = `http://web/${'a'.repeat(127 - 'http://web//bootaa64.efi'.length)}/`
  await assertKea(configure('isc-kea', { range, http: longest }))
  assert.throws(
    () => configure('isc-kea', { range, http: longest.replace('web', 'webs') }),
    netimageError('bad-option'),
  )
})

test('only the network may write to the exported tree', () => {
  const settings = { network: '10.20.0.0/16' }
  assert.match(configure('ganesha', settings), /Access_Type = None;[^]*Clients = 10\.20\.0\.0\/16;/)
  assert.match(configure('nfs-exports', settings), / 10\.20\.0\.0\/16\(rw,/)
})
