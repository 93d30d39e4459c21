/**
 * A machine of bench/longest-stretch.ts. It mounts its root, then does what it is told:
 *
 * - `begin`: sends one GETATTR after the other until `end`, and answers with the longest wait
 * - a list of words: does this work, and answers when it is done
 */
import { setTimeout as sleep } from 'node:timers/promises'

import {
  connectNfs,
  raw,
  readListing,
  wide,
  type NfsClient,
  type Part,
  type ProcedureName,
} from '../test/protocols/support/nfs-client.ts'

/** What a machine that sends one GETATTR after the other has seen. */
export interface Stretch {
  /** Milliseconds. */
  longest: number
}

const [port, address] = process.argv.slice(2)
const client = await connectNfs(Number(port), address)
const root = await mount()
let isMeasuring = false

process.on('message', (message: unknown) => {
  if (message === 'begin') void measure()
  else if (message === 'end') isMeasuring = false
  else if (Array.isArray(message)) void work(message.map(String))
})
process.send?.('ready')

async function mount(): Promise<Buffer> {
  const { status, handle } = await client.mount('/root')
  if (status !== 0) throw new Error(`MOUNT failed with status ${status}`)
  return handle
}

async function measure(): Promise<void> {
  isMeasuring = true
  const stretch: Stretch = { longest: 0 }
  while (isMeasuring) {
    const before = performance.now()
    await client.done('GETATTR', [root])
    stretch.longest = Math.max(stretch.longest, performance.now() - before)
  }
  process.send?.(stretch)
}

const jukebox = 10008

/** Asks again as long as the server says so, as Linux does, but soon. */
async function done(name: ProcedureName, parts: Part): ReturnType<NfsClient['done']> {
  for (;;) {
    const { status, reader } = await client.ask(name, parts)
    if (status === 0) return reader
    if (status !== jukebox) throw new Error(`${name} failed with status ${status}`)
    await sleep(100)
  }
}

async function find(names: readonly string[]): Promise<Buffer> {
  let handle = root
  for (const name of names) handle = Buffer.from((await done('LOOKUP', [handle, name])).opaque())
  return handle
}

async function work([what = '', ...path]: string[]): Promise<void> {
  if (what === 'list') await list(await find(path))
  else if (what === 'look up') await find(path)
  else if (what === 'write') {
    const stable = 2
    const bytes = Buffer.from('changed')
    await done('WRITE', [await find(path), wide(0), bytes.length, stable, bytes])
  } else if (what === 'rmdir') {
    await done('RMDIR', [await find(path.slice(0, -1)), path.at(-1) ?? ''])
  } else throw new Error(`there is no work ${what}`)
  process.send?.('done')
}

async function list(directory: Buffer): Promise<void> {
  let [cookie, verifier] = [0, Buffer.alloc(8)]
  for (;;) {
    const sizes = [4096, 2 ** 20]
    const reader = await done('READDIRPLUS', [directory, wide(cookie), raw(verifier), ...sizes])
    const listing = readListing(reader, true)
    if (listing.isEnd) return
    cookie = listing.entries.at(-1)?.cookie ?? 0
    verifier = Buffer.from(listing.verifier)
  }
}
