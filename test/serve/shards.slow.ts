// A shard that is killed again and again, and a server with shards that ends by itself.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { netimage } from '../support/netimage.ts'
import { servedWorkspace } from './support/served-workspace.ts'
import {
  addressIn,
  assertAllIsThere,
  createWriter,
  killWhileAllWrite,
  startSharded,
} from './support/sharded-server.ts'

const { workspace, image } = await servedWorkspace('shards-slow')
const [one, other] = [addressIn(0), addressIn(1)]

test('a shard that is killed is started again each time, and its server closes all at its end', async () => {
  const state = workspace.path('killed')
  const server = await startSharded({ image, state })
  using hit = createWriter(server.nfs, one)
  using spared = createWriter(server.nfs, other)
  const kills = 4
  for (let kill = 0; kill < kills; kill++) {
    await killWhileAllWrite(server.pid, one, [hit, spared])
  }
  assert.equal(spared.connections(), 1)
  await assertAllIsThere([hit, spared])
  server.child.kill('SIGTERM')
  assert.equal((await server.ended).status, 0)
  const boots = await netimage(['boots', one, '--state', state])
  assert.match(boots.stdout, /server restart .*reason=SIGKILL/)
  const others = await netimage(['boots', other, '--state', state])
  assert.doesNotMatch(others.stdout, /restart/)
})
