// A machine that tests all functions of a file system, also while its NFS server is killed again
// and again.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { workThroughKills } from '../serve/support/killed-server.ts'
import { startLinuxClient } from '../protocols/support/linux-client.ts'
import { posixChecks } from '../protocols/support/posix-checks.ts'
import { openNetwork } from './support/network.ts'

test('Linux sees a file system like its own, and does not notice that its server is killed', async () => {
  await using network = await openNetwork('serve-nfs-killed')
  const { kills } = await workThroughKills(network, {
    startMachine: (mount) =>
      startLinuxClient(network, { name: 'killed', host: 103, ...mount, script: posixChecks }),
    begins: /^checking$/,
    operationsBetweenKills: 150,
  })
  assert.ok(kills > 3, String(kills))
})
