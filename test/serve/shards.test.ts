// `netimage serve --workers 2`: each machine is in one of two processes. The suites of `netimage serve` show
// with NETIMAGE_TEST_WORKERS that machines notice no other difference.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { after, suite, test } from 'node:test'
import * as v from 'valibot'
import { ownerOf } from '../../src/serve/shard/owner.ts'
import { waitForOldShards } from '../../src/serve/state.ts'
import { findProgram } from '../e2e/support/packages.ts'
import { netimage, startNetimage, type Started } from '../support/netimage.ts'
import { assertGone, end } from '../support/processes.ts'
import { runProgram } from '../support/real-nix.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { connectNfs, readAfter, wide, type NfsClient } from '../protocols/support/nfs-client.ts'
import { freePort } from './support/free-port.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const { workspace, image } = await servedWorkspace('shards')
const addresses = Array.from({ length: 20 }, (_, index) => `127.0.0.${index + 2}`)
const [one, other] = [0, 1].map(
  (shard) => addresses.find((address) => ownerOf(address, 2) === shard) ?? assert.fail(),
)
assert.ok(one !== undefined && other !== undefined)

const running: Started[] = []
after(async () => {
  for (const { child } of running) child.kill('SIGKILL')
  await Promise.all(running.map(({ ended }) => ended))
})

async function startOnly(state: string, ...flags: string[]) {
  const [tftp, http, nfs] = [await freePort(), await freePort(), await freePort()]
  const started = startNetimage([
    ...['serve', image, '--dhcp', 'off', '--listen', '127.0.0.1', '--state', state],
    ...['--tftp-port', `${tftp}`, '--http-port', `${http}`, '--nfs-port', `${nfs}`],
    ...['--no-port-mapper', '--allow', 'any', '--workers', '2', ...flags],
  ])
  running.push(started)
  const pid = started.child.pid ?? assert.fail()
  return { ...started, pid, tftp, http, nfs }
}

async function start(state: string, ...flags: string[]) {
  const started = await startOnly(state, ...flags)
  let said = ''
  started.child.stderr?.on('data', (text: string) => (said += text))
  await waitUntil('it listens', () => {
    assert.equal(started.child.exitCode, null, said)
    return /^on 127\.0\.0\.1 /m.test(said)
  })
  return { ...started, said: () => said }
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
  return text.split(' ').filter(Boolean).map(Number)
}

/** The processes that have files of the layer of a machine open. */
function openersOf(server: number, machine: string): number[] {
  return childrenOf(server).filter((pid) =>
    readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`).includes(`/layers/${machine}/`)
      } catch {
        return false
      }
    }),
  )
}

/** A shard that ends breaks a connection and one that is just under way; later connections wait for it. */
const maxFailures = 10

/** Writes numbers into a file, each on the disk before the next, also if a shard ends meanwhile. */
function createWriter(port: number, address: string) {
  let client: NfsClient | undefined
  let [connections, written] = [0, 0]
  let file: Buffer | undefined

  async function connected(): Promise<NfsClient> {
    if (client && !client.socket.destroyed) return client
    client = await connectNfs(port, address)
    connections++
    return client
  }

  async function once(): Promise<void> {
    const nfs = await connected()
    if (!file) {
      const { handle } = await nfs.mount('/srv/test')
      await nfs.done('CREATE', [handle, 'numbers', 0, [0, 0, 0, 0, 0, 0]])
      file = await nfs.find(handle, 'numbers')
    }
    const number = Buffer.alloc(4)
    number.writeUInt32BE(written)
    await nfs.done('WRITE', [file, wide(4 * written), 4, 2, number])
    written++
  }

  return {
    connections: () => connections,
    /** @throws if the shard does not come back */
    async writes(count: number): Promise<void> {
      let failures = 0
      for (const until = written + count; written < until;) {
        try {
          await waitFor('a write is answered, or its connection breaks', once())
          failures = 0
        } catch (error) {
          client?.socket.destroy()
          if (++failures > maxFailures) throw error
        }
      }
    },
    async numbers(): Promise<number[]> {
      const reader = await (await connected()).done('READ', [file ?? assert.fail(), wide(0), 65536])
      readAfter(reader)
      reader.uint32()
      reader.uint32()
      const bytes = reader.opaque()
      return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32BE(4 * index))
    },
    written: () => written,
    [Symbol.dispose]: () => void client?.socket.destroy(),
  }
}

suite('a server with two shards', () => {
  test('gives all connections of a machine to one shard, and machines to both', async () => {
    const server = await start(workspace.path('two'))
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
    server.child.kill('SIGTERM')
    assert.equal((await server.ended).status, 0)
  })

  test('serves TFTP from one port, and tells by HTTP of the machines of all shards', async () => {
    const server = await start(workspace.path('one-port'), '--tftp-single-port')
    const curl = (url: string, ...args: string[]) =>
      runProgram(findProgram('curl'), ['-sf', ...args, url])
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
    server.child.kill('SIGTERM')
    assert.equal((await server.ended).status, 0)
  })

  test('starts a shard again that was killed: what it acknowledged is there, and other machines notice nothing', async () => {
    const state = workspace.path('killed')
    const server = await start(state)
    using hit = createWriter(server.nfs, one)
    using spared = createWriter(server.nfs, other)
    const kills = 3
    for (let kill = 0; kill < kills; kill++) {
      await Promise.all([hit.writes(10), spared.writes(10)])
      const [owner, ...more] = openersOf(server.pid, one)
      assert.deepEqual(more, [])
      const goesOn = Promise.all([hit.writes(20), spared.writes(20)])
      end(owner ?? assert.fail())
      await goesOn
    }
    assert.ok(hit.connections() > 1)
    assert.equal(spared.connections(), 1)
    for (const writer of [hit, spared]) {
      const expected = Array.from({ length: writer.written() }, (_, index) => index)
      assert.deepEqual(await writer.numbers(), expected)
    }
    assert.match(server.said(), /a process that serves machines has ended, .*SIGKILL/)
    server.child.kill('SIGTERM')
    assert.equal((await server.ended).status, 0)
    const boots = await netimage(['boots', one, '--state', state])
    assert.match(boots.stdout, /server restart .*reason=SIGKILL/)
    const others = await netimage(['boots', other, '--state', state])
    assert.doesNotMatch(others.stdout, /restart/)
  })

  test('that is stopped while its shards start tells of no defect', async () => {
    const server = await startOnly(workspace.path('stopped'))
    await waitUntil('the shards start', () => childrenOf(server.pid).length === 2)
    server.child.kill('SIGINT')
    // A terminal tells all processes to stop. A shard that has only begun to start ends by that.
    for (const pid of childrenOf(server.pid)) end(pid)
    const { stderr, status } = await server.ended
    assert.doesNotMatch(stderr, /a process that serves machines/)
    assert.equal(status, 130)
  })

  test('ends with its front, also if the front is killed', async () => {
    const server = await start(workspace.path('front'))
    const shards = childrenOf(server.pid)
    assert.equal(shards.length, 2)
    server.child.kill('SIGKILL')
    for (const pid of shards) await assertGone(pid)
  })

  test('keeps a new server waiting for a process that is busy while its front is killed', async () => {
    const state = workspace.path('busy')
    const server = await start(state)
    const [busy = assert.fail(), idle = assert.fail()] = childrenOf(server.pid)
    process.kill(busy, 'SIGSTOP')
    try {
      server.child.kill('SIGKILL')
      await assertGone(idle)
      await assert.rejects(waitForOldShards(state, undefined, 0), {
        code: 'in-use',
        message: new RegExp(`still use the state in .*: ${busy}$`),
      })
      const waits = waitForOldShards(state, undefined, 15 * 60_000)
      process.kill(busy, 'SIGCONT')
      await waits
    } finally {
      end(busy)
    }
  })
})
