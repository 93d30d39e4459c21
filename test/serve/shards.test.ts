// `netimage serve --workers 2`: each machine is in one of two processes. The suites of `netimage serve` show
// with NETIMAGE_TEST_WORKERS that machines notice no other difference.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { readBoots, readEvents } from '../../src/boots/read.ts'
import { assertGone, childrenOf, end } from '../support/processes.ts'
import { runProgram } from '../support/real-nix.ts'
import { waitUntil } from '../support/waiting.ts'
import { connectNfs } from '../protocols/support/nfs-client.ts'
import { findProgram } from '../support/packages.ts'
import { begunRollout } from './support/begun-rollout.ts'
import { servedWorkspace } from './support/served-workspace.ts'
import {
  addressIn,
  assertAllIsThere,
  createWriter,
  killWhileAllWrite,
  openersOf,
  startOnly,
  startSharded,
} from './support/sharded-server.ts'

const { workspace, image } = await servedWorkspace('shards')
const [one, other] = [addressIn(0), addressIn(1)]
const curl = (url: string, ...args: string[]) =>
  runProgram(findProgram('curl'), ['-sf', ...args, url])

suite('a server with two shards', async () => {
  const state = workspace.path('two')
  const server = await startSharded({ image, state }, '--tftp-single-port')

  test('gives all connections of a machine to one shard, and machines to both', async () => {
    using first = await connectNfs(server.nfs, one)
    using second = await connectNfs(server.nfs, one)
    using third = await connectNfs(server.nfs, other)
    const [{ handle }] = [await first.mount('/srv/test'), await third.mount('/srv/test')]
    await first.done('MKDIR', [handle, 'made', [0, 0, 0, 0, 0, 0]])
    await second.find((await second.mount('/srv/test')).handle, 'made')
    assert.equal(childrenOf(server.pid).length, 2)
    const [ofOne, ofOther] = [openersOf(server.pid, one), openersOf(server.pid, other)]
    assert.equal(ofOne.length, 1)
    assert.equal(ofOther.length, 1)
    assert.notDeepEqual(ofOne, ofOther)
  })

  test('serves TFTP from one port, and tells by HTTP of the machines of all shards', async () => {
    for (const from of [one, other]) {
      const script = await curl(`tftp://127.0.0.1:${server.tftp}/boot.ipxe`, '--interface', from)
      assert.match(script, /^#!ipxe/)
    }
    const api = `http://127.0.0.1:${server.http}/api`
    for (const from of [one, other]) {
      await waitUntil('the last transfers are told', async () => {
        const machines = await curl(`${api}/machines`, '--interface', from)
        return [one, other].every((address) => machines.includes(`"${address}"`))
      })
    }
    assert.equal(v.parse(v.array(v.unknown()), JSON.parse(await curl(`${api}/images`))).length, 1)
  })

  test('starts a shard again that was killed: what it acknowledged is there, and other machines notice nothing', async () => {
    using hit = createWriter(server.nfs, one)
    using spared = createWriter(server.nfs, other)
    await killWhileAllWrite(server.pid, one, [hit, spared])
    assert.ok(hit.connections() > 1)
    assert.equal(spared.connections(), 1)
    await assertAllIsThere([hit, spared])
    assert.match(server.said(), /a process that serves machines has ended, .*SIGKILL/)
    const eventsOf = (machine: string) =>
      JSON.stringify(readBoots(state, machine, 9).flatMap((boot) => readEvents(state, boot)))
    await waitUntil('the restart is recorded', () => eventsOf(one).includes('restart'))
    assert.doesNotMatch(eventsOf(other), /restart/)
  })

  test('ends with its front, also if the front is killed while one of its shards cannot run', async () => {
    const [busy = assert.fail(), idle = assert.fail()] = childrenOf(server.pid)
    process.kill(busy, 'SIGSTOP')
    server.child.kill('SIGKILL')
    for (const pid of [idle, busy]) await assertGone(pid)
  })
})

test('a server that is stopped while its shards start tells of no defect', async () => {
  const server = await startOnly({ image, state: workspace.path('stopped') })
  await waitUntil('the shards start', () => childrenOf(server.pid).length === 2)
  server.child.kill('SIGINT')
  // A terminal tells all processes to stop. A shard that has only begun to start ends by that.
  for (const pid of childrenOf(server.pid)) end(pid)
  const { stderr, status } = await server.ended
  assert.doesNotMatch(stderr, /a process that serves machines/)
  assert.equal(status, 130)
})

test('a roll-out of a server with two shards goes on in its front alone', async () => {
  const asked = workspace.path('asked')
  const reboot = ['sh', '-c', `echo asked >> "${asked}"`]
  const state = await begunRollout(workspace.path('rollout'), [one], new Map([[one, { reboot }]]))
  const server = await startSharded({ image, state })
  await waitUntil('the machine was asked', () => server.said().includes('ended with status 0'))
  server.child.kill('SIGINT')
  const { stderr } = await server.ended
  const says = `${one}: roll-out 1 of lab asks it to restart\n`
  assert.equal(stderr.split(says).length, 2, stderr)
  assert.equal(readFileSync(asked, 'utf8'), 'asked\n')
})
