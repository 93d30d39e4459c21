// What `netimage serve` has learnt of machines outlives a restart: the server is killed in between.

import assert from 'node:assert/strict'
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { useBootDatabase } from '../../src/boots/database.ts'
import { openFacts } from '../../src/boots/facts.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { findProgram } from '../support/packages.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork } from './support/network.ts'
import { udhcpc, udhcpcInVain } from './support/own-dhcp.ts'
import { startOwnServer } from './support/own-server.ts'

const mac = '52:54:00:00:00:07'
const path = '/srv/test'

suite('a server that was killed and started again', () => {
  test('knows the processor, the address and the last boot of a machine', async (context) => {
    const workspace = makeWorkspace('restart')
    context.after(() => workspace.remove())
    const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
    const other = workspace.path('other')
    cpSync(image, other, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    const manifest = join(other, 'nix-support/net-image.json')
    const text = readFileSync(manifest, 'utf8')
    writeFileSync(
      manifest,
      text.replace('x86_64-linux', 'aarch64-linux').replace(path, '/srv/other'),
    )

    await using network = await openNetwork('restart')
    // The first image is the default for a machine whose processor is not known.
    const server = await startOwnServer(network, [other, image], 'full', { workers: 2 })
    const host = await network.addHost(mac)
    const lease = await udhcpc(host)
    const address = lease['ip'] ?? ''
    await host.run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0'])
    // The image has no loader for it, but the machine told its processor: x86-64.
    await udhcpcInVain(host, ['-V', 'PXEClient:Arch:00007:UNDI:003016', '-x', '93:0007'])
    await server.restart()

    const shown = ['curl', '-s', `http://${network.server}/api/machines`]
    assert.match(await host.run(shown), new RegExp(`"machine": ?"${mac}"`))
    await host.run([findProgram('nfs-ls'), `nfs://${network.server}${path}?version=3`])
    const state = join(network.directory, 'state')
    assert.equal(layersOf(state).length, 1)
    const known = useBootDatabase(state, assert.ifError, (database) => {
      const found = openFacts(database, assert.ifError).known('address')
      database.close()
      return found
    })
    assert.equal(known.get(address), mac)
  })
})

function layersOf(state: string): string[] {
  const folder = join(state, 'layers', mac.replaceAll(':', '-'))
  return readdirSync(folder).filter((name) => !name.endsWith('.lock'))
}
