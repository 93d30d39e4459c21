// Paths with characters that have a special meaning for a server. netimage quotes them for each
// server, and the server must serve the files.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { serverNames } from '../../src/servers/configure.ts'
import { netimageError } from '../support/errors.ts'
import { findProgram } from '../support/packages.ts'
import { startDnsmasq, startGanesha, startTftpdHpa } from './support/daemons.ts'
import { startKernelNfsServer } from './support/kernel-nfs-server.ts'
import { openNetwork, type Network } from './support/network.ts'
import { makeOddImage, oddName, oddPath } from './support/odd-image.ts'

suite('paths with odd characters', () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-paths-'))
  after(() => rmSync(directory, { recursive: true, force: true }))
  const odd = join(directory, oddName)

  const fetchFile = async ({ run, server }: Network) =>
    await run([findProgram('curl'), '--silent', '--show-error', `tftp://${server}/file`])

  test('dnsmasq', async () => {
    await using network = await openNetwork('paths-dnsmasq')
    await startDnsmasq(network, makeOddImage(odd).configure('dnsmasq', network.bridge))
    assert.equal(await fetchFile(network), `in ${odd}/net-image/boot`)
  })

  test('tftpd-hpa, except for characters that its script cannot handle', async () => {
    await using network = await openNetwork('paths-tftpd-hpa')
    const image = join(directory, oddName.replaceAll(/[\s*?[\\]/g, ''))
    await startTftpdHpa(network, makeOddImage(image).configure('tftpd-hpa', network.bridge))
    assert.equal(await fetchFile(network), `in ${image}/net-image/boot`)
    for (const character of [' ', '\u2003', '*', '?', '[', '\\']) {
      const { configure } = makeOddImage(join(directory, `a${character}b`))
      const refused = netimageError('bad-option', /tftpd-hpa cannot serve/)
      assert.throws(() => configure('tftpd-hpa', network.bridge), refused)
    }
  })

  async function listByEachVersion({ run }: Network, address: string): Promise<void> {
    for (const version of [3, 4]) {
      const url = `nfs://${address}${oddPath}?version=${version}`
      assert.match(await run([findProgram('nfs-ls'), url]), / file\n/)
    }
  }

  test('nfs-ganesha', async () => {
    await using network = await openNetwork('paths-ganesha')
    await startGanesha(network, makeOddImage(odd).configure('ganesha', network.bridge))
    await listByEachVersion(network, network.server)
  })

  test('the NFS server of the kernel', async () => {
    await using network = await openNetwork('paths-nfs-exports')
    const { rootTree, configure } = makeOddImage(odd)
    const exports = configure('nfs-exports', network.bridge)
    const address = '10.66.0.2'
    const served = { address: `${address}/24`, rootTree, path: oddPath, exports }
    await startKernelNfsServer(network, served)
    await listByEachVersion(network, address)
  })

  test('control characters are refused for every server', () => {
    const refused = netimageError('bad-option', /control characters/)
    for (const character of ['\n', '\t', '\r', '\x1b', '\x7f']) {
      const { configure } = makeOddImage(join(directory, `a${character}b`))
      for (const server of serverNames) assert.throws(() => configure(server, 'eth0'), refused)
    }
  })

  test('an interface must be one name', () => {
    const { configure } = makeOddImage(odd)
    for (const name of ['', 'eth0,eth1', 'eth0\nport=53', 'eth0/10.0.0.5', 'a'.repeat(16)]) {
      const refused = netimageError('bad-option', /is no interface/)
      assert.throws(() => configure('isc-kea', name), refused)
    }
  })
})
