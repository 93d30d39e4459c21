// Servers with two shards, and machines of each shard.

import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { after } from 'node:test'
import { ownerOf } from '../../../src/serve/shard/owner.ts'
import { startNetimage, type Started } from '../../support/netimage.ts'
import { childrenOf, end } from '../../support/processes.ts'
import { waitFor, waitUntil } from '../../support/waiting.ts'
import { connectNfs, readAfter, wide, type NfsClient } from '../../protocols/support/nfs-client.ts'
import { freePort } from './free-port.ts'

interface ShardedServer {
  image: string
  state: string
}

const addresses = Array.from({ length: 20 }, (_, index) => `127.0.0.${index + 2}`)

/** The address of a machine that a shard has. */
export function addressIn(shard: number): string {
  return addresses.find((address) => ownerOf(address, 2) === shard) ?? assert.fail()
}

const running: Started[] = []
after(async () => {
  for (const { child } of running) child.kill('SIGKILL')
  await Promise.all(running.map(({ ended }) => ended))
})

/** A server whose ports may not be open yet. */
export async function startOnly({ image, state }: ShardedServer, ...flags: string[]) {
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

export async function startSharded(server: ShardedServer, ...flags: string[]) {
  const started = await startOnly(server, ...flags)
  let said = ''
  started.child.stderr?.on('data', (text: string) => (said += text))
  await waitUntil('it listens', () => {
    assert.equal(started.child.exitCode, null, said)
    return /^on 127\.0\.0\.1 /m.test(said)
  })
  return { ...started, said: () => said }
}

/** The processes that have files of the layer of a machine open. */
export function openersOf(server: number, machine: string): number[] {
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

type Writer = ReturnType<typeof createWriter>

/** Kills the shard of a machine while all writers write. */
export async function killWhileAllWrite(
  server: number,
  machine: string,
  writers: readonly Writer[],
): Promise<void> {
  const write = (count: number) => Promise.all(writers.map((writer) => writer.writes(count)))
  await write(10)
  const [owner, ...more] = openersOf(server, machine)
  assert.deepEqual(more, [])
  const goesOn = write(20)
  end(owner ?? assert.fail())
  await goesOn
}

/** Nothing that was acknowledged is lost. */
export async function assertAllIsThere(writers: readonly Writer[]): Promise<void> {
  for (const writer of writers) {
    const expected = Array.from({ length: writer.written() }, (_, index) => index)
    assert.deepEqual(await writer.numbers(), expected)
  }
}

/** A shard that ends breaks a connection and one that is just under way; later connections wait for it. */
const maxFailures = 10

/** Writes numbers into a file, each on the disk before the next, also if a shard ends meanwhile. */
export function createWriter(port: number, address: string) {
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
