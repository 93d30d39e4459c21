// A machine whose first packet is a mount, while another machine is busy.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { buildServedImage } from '../serve/support/served-image.ts'
import { findProgram } from '../support/packages.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork, type Host } from './support/network.ts'
import { startOwnServer } from './support/own-server.ts'
import { udhcpc } from './support/own-dhcp.ts'

const path = '/srv/test'
const stayingClient = join(import.meta.dirname, '../protocols/support/staying-client-program.ts')
const newcomers = [1, 2, 3, 4, 5]

suite('a machine that sent nothing before it mounts', () => {
  test('gets the root of its hardware address, even if other machines are busy', async (context) => {
    const workspace = makeWorkspace('newcomers')
    context.after(() => workspace.remove())
    const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
    await using network = await openNetwork('newcomers')
    await startOwnServer(network, [image], 'full', { workers: 2 })
    const list = [findProgram('nfs-ls'), `nfs://${network.server}${path}?version=3`]
    const addHost = async (number: number): Promise<Host> => {
      const host = await network.addHost(`52:54:00:00:00:0${number}`)
      await host.run(['ip', 'address', 'add', `10.66.0.${number + 1}/24`, 'dev', 'eth0'])
      return host
    }
    const busy = await addHost(9)
    const hosts = await Promise.all(newcomers.map(addHost))
    const loop = 'while "$@" >/dev/null; do echo round; done'
    const looping = busy.start('busy', ['sh', '-c', loop, 'sh', ...list])
    await looping.waitFor(/^round$/)
    for (const host of hosts) assert.match(await host.run(list), / nix\n/)
    assert.ok(looping.isRunning())
    const layers = readdirSync(join(network.directory, 'state', 'layers')).toSorted()
    const expected = [...newcomers, 9].map((number) => `52-54-00-00-00-0${number}`)
    assert.deepEqual(layers, expected)
  })
})

suite('two machines with one hardware address', () => {
  test('the first keeps its root; the second gets no root and no answer of DHCP until the first is off', async (context) => {
    const workspace = makeWorkspace('doubles')
    context.after(() => workspace.remove())
    const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
    await using network = await openNetwork('doubles')
    const { program: server } = await startOwnServer(network, [image], 'full', { workers: 2 })
    const mac = '52:54:00:00:00:07'
    // As behind a wireless bridge: two machines that the server cannot tell apart on the wire.
    const host = await network.addHost(mac)
    for (const address of ['10.66.0.7', '10.66.0.8']) {
      await host.run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0'])
    }
    const start = (address: string) =>
      host.start(address, [process.execPath, stayingClient, network.server, address, path])
    const first = start('10.66.0.7')
    const calls = () => first.lines().filter(({ text }) => text === 'called').length
    await first.waitFor(/^called$/)

    await start('10.66.0.8').waitFor(/^mounted with status 13$/)
    await server.waitFor(/^error: 10\.66\.0\.8 has the same hardware address as 10\.66\.0\.7 /)
    const ipxe = ['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '93:0000', '-x', '77:69505845']
    // At its first question, it could be the first machine, which started again.
    assert.ok(await udhcpc(host, ipxe))
    const before = calls()
    await waitUntil('the first machine works', () => calls() > before + 8)
    const words = ['udhcpc', '-i', 'eth0', '-f', '-s', '/bin/false', ...ipxe]
    const asking = host.start('udhcpc', [findProgram('busybox'), ...words])
    await server.waitFor(/"refuse".*"reason":"another machine with the same hardware address uses/)
    await asking.kill()
    assert.ok(first.isRunning())

    await first.kill()
    await start('10.66.0.8').waitFor(/^called$/)
    assert.ok(await udhcpc(host, ipxe))
  })
})
