// A machine whose NFS server is killed again and again.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startLinuxClient } from '../serve/support/linux-client.ts'
import { posixChecks } from '../serve/support/posix-checks.ts'
import { openNetwork } from './support/network.ts'

const seconds = 400
const program = join(import.meta.dirname, '../serve/support/nfs-server-program.ts')
const path = '/srv/pi'

test('Linux does not notice that the server of a layer is killed and starts anew', async () => {
  await using network = await openNetwork('serve-nfs-killed')
  const [layer, tree] = [join(network.directory, 'layer'), join(network.directory, 'tree')]
  for (const directory of [layer, tree]) mkdirSync(directory)
  const ports = JSON.stringify({ nfs: 2050 })
  const start = async () => {
    const command = [process.execPath, program, network.server, ports, path, layer, tree]
    const started = network.start('nfs-layer', command)
    await started.waitFor(/^ready$/, 30)
    return started
  }
  let layered = await start()
  const machine = await startLinuxClient(network, {
    ...{ name: 'killed', host: 103, path, options: ',port=2050,mountport=2050' },
    script: posixChecks,
  })
  const passed = machine.waitFor(/^passed$/, seconds)
  await machine.waitFor(/^checking$/, seconds)
  let kills = 0
  for (let isDone = false; !isDone; kills++) {
    isDone = await Promise.race([passed.then(() => true), sleep(1500, false)])
    await layered.kill()
    layered = await start()
  }
  assert.ok(kills > 3, String(kills))
})
