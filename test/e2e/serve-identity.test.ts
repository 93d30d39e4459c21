// A machine whose first packet is a mount, while another machine is busy.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { buildServedImage } from '../serve/support/served-image.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork, type Host } from './support/network.ts'
import { startOwnServer } from './support/own-server.ts'
import { findProgram } from './support/packages.ts'

const path = '/srv/test'
const newcomers = [1, 2, 3, 4, 5]

suite('a machine that sent nothing before it mounts', () => {
  test('gets the root of its hardware address, even if other machines are busy', async (context) => {
    const workspace = makeWorkspace('newcomers')
    context.after(() => workspace.remove())
    const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
    await using network = await openNetwork('newcomers')
    await startOwnServer(network, [image], 'full')
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
