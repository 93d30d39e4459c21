// A machine without a disk, as its firmware, its kernel and its services use `netimage serve`. It has an
// address on the loopback interface.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import {
  connectNfs,
  readData,
  wanted,
  wide,
  type NfsClient,
} from '../../protocols/support/nfs-client.ts'
import { notesDirectory } from '../../../src/serve/boot-notes.ts'
import { waitUntil } from '../../support/waiting.ts'
import { fleetRoot, markFile } from './fleet-images.ts'
import type { Action } from './fleet-server.ts'

/** NFS3ERR_JUKEBOX, also of a mount: the client asks again. */
const jukebox = 10008
/** NFS3ERR_EXIST */
const exists = 17

export interface ServedMachine {
  /**
   * @param toplevel of the system that the machine boots
   * @returns the mark of what it was answered; undefined if the answer has none
   * @throws if the server ends before it has answered
   */
  does(action: Action, toplevel: string): Promise<string | undefined>
  powerOff(): void
  /** Its root, as long as it uses that. */
  mounted(): { client: NfsClient; root: Buffer }
}

/** @param isKilled whether the server that is asked is gone */
export function createServedMachine(
  address: string,
  ports: { http: number; nfs: number },
  isKilled: () => boolean,
): ServedMachine {
  let client: NfsClient | undefined
  let root: Buffer | undefined
  /** The paths of the kernel and the initrd. */
  let files: { kernel: string; initrd: string } | undefined

  /** A kernel connects again if it has lost its connection, and keeps its file handles. */
  async function connected(): Promise<NfsClient> {
    if (client && !client.socket.destroyed) return client
    client?.[Symbol.dispose]()
    client = await connectNfs(ports.nfs, address)
    return client
  }

  async function ask(...[name, parts]: Parameters<NfsClient['ask']>) {
    let result: Awaited<ReturnType<NfsClient['ask']>> | undefined
    await waitUntil(`${name} of ${address} is answered`, async () => {
      if (isKilled()) throw new Error('the server is gone')
      result = await (await connected()).ask(name, parts)
      return result.status !== jukebox
    })
    return result ?? assert.fail(name)
  }

  async function done(...[name, parts]: Parameters<NfsClient['ask']>) {
    const { status, reader } = await ask(name, parts)
    assert.equal(status, 0, `${name} of ${address}`)
    return reader
  }

  async function find(...names: string[]): Promise<Buffer> {
    let handle = root ?? assert.fail('the root is not mounted')
    for (const name of names) {
      handle = Buffer.from((await done('LOOKUP', [handle, name])).opaque())
    }
    return handle
  }

  async function read(...names: readonly string[]): Promise<string> {
    return readData(await done('READ', [await find(...names), wide(0), 4096])).toString()
  }

  async function mount(): Promise<void> {
    await waitUntil(`the root of ${address} is mounted`, async () => {
      if (isKilled()) throw new Error('the server is gone')
      const { status, handle } = await (await connected()).mount(fleetRoot)
      if (status !== 0) assert.equal(status, jukebox, `the mount of ${address}`)
      else root = handle
      return status === 0
    })
  }

  /** Writes the note that this boot is good, as nix/bless.nix does. */
  async function bless(toplevel: string): Promise<void> {
    let directory = root ?? assert.fail('the root is not mounted')
    for (const name of notesDirectory) {
      const { status } = await ask('MKDIR', [directory, name, wanted({ mode: 0o755 })])
      assert.ok(status === 0 || status === exists, `MKDIR ${name}: ${status}`)
      directory = Buffer.from((await done('LOOKUP', [directory, name])).opaque())
    }
    await done('CREATE', [directory, 'new', 0, wanted({ mode: 0o644 })])
    const file = Buffer.from((await done('LOOKUP', [directory, 'new'])).opaque())
    const note = JSON.stringify({ version: 1, bootId: randomUUID(), toplevel })
    await done('WRITE', [file, wide(0), note.length, 2, note])
    await done('RENAME', [directory, 'new', directory, 'blessed'])
  }

  function fetch(path: string): Promise<string> {
    const options = { host: '127.0.0.1', port: ports.http, path, localAddress: address }
    return new Promise((resolve, reject) => {
      const asked = request({ ...options, agent: false }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (piece: string) => (text += piece))
        response.on('error', reject)
        response.on('end', () => {
          if (response.statusCode === 200 && response.complete) resolve(text)
          else reject(new Error(`${path} for ${address}: ${response.statusCode} ${text}`))
        })
      })
      asked.on('error', reject).end()
    })
  }

  const machine: ServedMachine = {
    async does(action, toplevel) {
      switch (action) {
        case 'boot.ipxe': {
          machine.powerOff()
          const script = await fetch('/boot.ipxe')
          const path = (line: RegExp) => line.exec(script)?.[1] ?? assert.fail(script)
          const kernel = path(/^kernel (\S+) /m)
          files = { kernel, initrd: path(/^initrd --name \S+ (\S+) /m) }
          return path(/init=\/nix\/store\/\S*-fleet-(\S+)\/init/)
        }
        case 'kernel':
        case 'initrd':
          return await fetch(`/${files?.[action] ?? assert.fail(action)}`)
        case 'mount':
          await mount()
          return await read(...markFile)
        case 'init':
          return await read(...toplevel.slice(1).split('/'), 'init')
        case 'alive':
          return await read(...markFile)
        case 'dhcp':
          return assert.fail('there is no DHCP')
        default:
          await bless(action.toplevel)
          return undefined
      }
    },
    mounted() {
      return client && root ? { client, root } : assert.fail(`${address} has no root`)
    },
    powerOff() {
      client?.[Symbol.dispose]()
      client = undefined
      root = undefined
    },
  }
  return machine
}
