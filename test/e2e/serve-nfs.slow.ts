// A machine that tests all functions of a file system, also while its NFS server is killed again
// and again.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { workThroughKills } from '../serve/support/killed-server.ts'
import { startLinuxClient } from '../protocols/support/linux-client.ts'
import { posixChecks } from '../protocols/support/posix-checks.ts'
import { openNetwork } from './support/network.ts'

const program = join(import.meta.dirname, '../protocols/support/nfs-server-program.ts')
const path = '/srv/pi'

test('Linux sees a file system like its own', async () => {
  await using network = await openNetwork('serve-nfs-posix')
  const ports = JSON.stringify({ nfs: 2049, mount: 20048 })
  const command = [process.execPath, program, network.server, ports, path]
  const server = network.start('nfs', command)
  await server.waitFor(/^ready$/)
  const machine = await startLinuxClient(network, {
    ...{ name: 'posix', host: 101, path, options: ',port=2049,mountport=20048' },
    script: posixChecks,
  })
  await machine.waitFor(/^passed$/)
})

test('Linux does not notice that the server of a layer is killed and restarted', async () => {
  await using network = await openNetwork('serve-nfs-killed')
  const { kills } = await workThroughKills(network, {
    startMachine: (mount) =>
      startLinuxClient(network, { name: 'killed', host: 103, ...mount, script: posixChecks }),
    begins: /^checking$/,
    betweenKillsMs: 1500,
  })
  assert.ok(kills > 3, String(kills))
})
