// One host that is hundreds of machines: it has as many addresses, and takes all places that a server has for
// transfers and connections. A machine that a person has chosen something for boots all the same.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findProgram } from '../support/packages.ts'
import { connectNfs, readAfter, wide, type NfsClient } from '../protocols/support/nfs-client.ts'
import { ack, openPeer, readRequest, type TftpPeer } from '../protocols/support/tftp-peer.ts'
import { netimage } from '../support/netimage.ts'
import { runProgram } from '../support/real-nix.ts'
import { waitFor } from '../support/waiting.ts'
import { servedWorkspace } from './support/served-workspace.ts'
import { addressIn, startSharded } from './support/sharded-server.ts'

const { workspace, image } = await servedWorkspace('many-addresses')
const curl = (...args: string[]) => runProgram(findProgram('curl'), ['-sf', ...args])
/** More than the places for transfers of one process. */
const ofProcess = 300
const inventedFor = (processes: number) =>
  Array.from({ length: ofProcess * processes }, (_, at) => `127.1.${at >> 8}.${at & 255}`)

/** Fetches a file in very small blocks, again and again, and never so slowly that the server gives up. */
async function drip(peer: TftpPeer, server: number, { signal, onBegin }: Drip): Promise<void> {
  while (!signal.aborted) {
    peer.send(readRequest('boot.ipxe', { blksize: 8 }), server)
    for (;;) {
      const received = await peer.next(2000)
      if (signal.aborted || !received || received.packet.kind === 'error') break
      const { packet, port } = received
      peer.send(ack(packet.kind === 'data' ? packet.block : 0), port)
      if (packet.kind !== 'data') continue
      onBegin()
      await sleep(500)
    }
  }
  await peer[Symbol.asyncDispose]()
}

interface Drip {
  signal: AbortSignal
  onBegin: () => void
}

/** Resolves when the host has transfers, connections and roots. It gets more and more of them until it ends. */
async function attack(
  { tftp, nfs }: { tftp: number; nfs: number },
  invented: readonly string[],
): Promise<AsyncDisposable> {
  const stop = new AbortController()
  const begun = Promise.withResolvers<void>()
  const peers = await Promise.all(invented.map((address) => openPeer(address)))
  const settings = { signal: stop.signal, onBegin: begun.resolve }
  const drips = peers.map((peer) => drip(peer, tftp, settings))
  const clients: NfsClient[] = []
  for (const address of invented) clients.push(await connectNfs(nfs, address))
  const mounts = clients.map((client) => client.mount('/srv/test'))
  await waitFor('it has a transfer and a root', Promise.all([begun.promise, Promise.any(mounts)]))
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      for (const { socket } of clients) socket.destroy()
      await Promise.allSettled([...drips, ...mounts])
    },
  }
}

suite('a server that one host overruns with hundreds of addresses', () => {
  for (const workers of [0, 2]) {
    test(`boots a machine that it knows, with ${workers} workers`, async () => {
      const state = workspace.path(`state-${workers}`)
      const server = await startSharded({ image, state }, '--workers', `${workers}`)
      const machine = addressIn(0)
      const { stdout } = await netimage(['site', 'images', '--json', '--state', state])
      const [, id = assert.fail(stdout)] = /"id": *"([0-9a-f]+)"/.exec(stdout) ?? []
      const assigned = await netimage(['site', 'assign', machine, id, '--state', state])
      assert.equal(assigned.status, 0, assigned.stderr)

      await using attacking = await attack(server, inventedFor(Math.max(1, workers)))
      assert.ok(attacking)
      const from = ['--interface', machine]
      const script = await curl(`tftp://127.0.0.1:${server.tftp}/boot.ipxe`, ...from)
      assert.match(script, /^#!ipxe/)
      assert.equal(await curl(`http://127.0.0.1:${server.http}/boot.ipxe`, ...from), script)
      using root = await connectNfs(server.nfs, machine)
      const { handle } = await root.mount('/srv/test')
      await root.done('CREATE', [handle, 'made', 0, [0, 0, 0, 0, 0, 0]])
      const file = await root.find(handle, 'made')
      await root.done('WRITE', [file, wide(0), 4, 2, Buffer.from('mine')])
      const reader = await root.done('READ', [file, wide(0), 100])
      readAfter(reader)
      assert.equal(reader.uint32(), 4)
    })
  }
})
