// Servers of an image whose boot tree is served over HTTP. That machines boot so is shown in
// test/e2e; here the servers' own checks read what is written for any address.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatManifest, parseManifest, type Manifest } from '../../src/image/manifest.ts'
import { serverKinds } from '../../src/servers/configure.ts'
import { planServers, type ServerSettings } from '../../src/servers/plan.ts'
import { findProgram } from '../e2e/support/packages.ts'
import { assertError } from '../support/errors.ts'
import { storePath } from '../support/path-infos.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const toplevel = storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`)
const options = {
  imageBaseName: 'image',
  rootDirectoryName: 'root',
  storePaths: [],
  nfsRoot: '10.0.0.5:/srv,v3',
  populateFirmwareCommands: '',
  populateRootCommands: '',
}
const manifest: Manifest = {
  version: 1,
  system: { toplevel, label: '25.11', platform: 'x86_64-linux', entries: [], fileSystems: [] },
  options,
  closure: [],
  root: { format: 'directory', owner: { uid: 0, gid: 0 }, files: [] },
  boot: {
    files: ['boot.ipxe', 'bootaa64.efi', 'bootx64.efi'].map((path) => {
      return { type: 'file', path, mode: '0644', size: 1, sha256: 'a'.repeat(64) }
    }),
  },
}
const image = parseManifest(formatManifest(manifest), 'the-manifest')

function configure(server: 'dnsmasq' | 'isc-kea', settings: ServerSettings): string {
  return serverKinds[server].configure(planServers('/image', image, settings))
}

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
