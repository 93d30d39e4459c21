// A person changes the layer of a machine that is off, while the server serves other machines.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { tryLock } from '../../src/lock.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { startHostedClient } from '../protocols/support/hosted-client.ts'
import { buildServedImage } from '../serve/support/served-image.ts'
import { cli, workersFlag } from '../support/netimage.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork } from './support/network.ts'

const mac = '52:54:00:00:01:0a'

test('the layer of a machine without power can be saved and reset while other machines run', async () => {
  await using cleanup = new AsyncDisposableStack()
  const workspace = makeWorkspace('layers-while-serving')
  cleanup.defer(() => workspace.remove())
  const network = cleanup.use(await openNetwork('layers'))
  const { server, bridge } = network
  const path = '/srv/test'
  const image = await buildServedImage(workspace, `${server}:${path},v3`)
  const state = join(network.directory, 'state')
  const program = network.start('netimage', [
    ...[process.execPath, cli, 'serve', image, '--state', state, '--json', '--allow', 'any'],
    ...['--dhcp', 'off', '--listen', server, '--interface', bridge],
    // The command and each of the processes that serve keep each other from the layers.
    ...workersFlag(2),
  ])
  await program.waitFor(/^on 10\.66\.0\.1 /)

  const start = (name: string, host: number, script: string) =>
    startHostedClient(network, { name, host, path, options: '', script })
  const layers = (...words: string[]) =>
    network.run([process.execPath, cli, 'layers', ...words, '--state', state])

  const other = await start(
    'other',
    11,
    'while date >there/beat && cat there/beat; do echo beats; sleep 1; done',
  )
  const otherBeats = async (count: number) => {
    const enough = other.lines().length + count
    const isOver = () => other.lines().length >= enough || !other.isRunning()
    await waitUntil('the other machine goes on', isOver)
    assert.ok(other.isRunning(), other.tail(20))
  }
  const first = await start('first', 10, 'echo mine >there/mine && echo wrote && sleep 1000')
  await first.waitFor(/^wrote$/)
  await assert.rejects(layers('reset', mac), /is in use/)
  await first.powerOff()

  await waitUntil('the server notices that the machine is gone', async () => {
    const failure = await layers('snapshot', mac, 'before').then(
      () => undefined,
      (error: unknown) => String(error),
    )
    if (failure !== undefined) assert.match(failure, /is in use/)
    return failure === undefined
  })
  await layers('reset', mac)

  // The machine asks for its root while another program uses the layer, and waits until that ends.
  const layer = listLayers(state).find(({ machine }) => machine === mac)
  const lock = layer && tryLock(layer.lock, 'exclusive')
  assert.ok(lock)
  const again = await start('again', 10, 'test ! -e there/mine && echo fresh')
  await program.waitFor(/the layer of 52:54:00:00:01:0a is in use/)
  await otherBeats(3)
  assert.ok(!again.lines().some(({ text }) => text === 'fresh'))
  lock.release()
  await again.waitFor(/^passed$/)

  assert.ok(program.isRunning())
  await otherBeats(3)
  await other.powerOff()
})
