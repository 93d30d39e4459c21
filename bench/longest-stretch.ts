/**
 * Finds for how long the work for one machine keeps the other machines of a server waiting.
 *
 *     node --max-semi-space-size=4 bench/longest-stretch.ts [name of a work]...
 *
 * The processes of `netimage serve` have the same limit: see src/serve/front/one-process.ts.
 *
 * This process is the server. For each kind of long work, it prints the longest time between two turns of
 * its event loop, the processor time of its thread in the busiest of these times, and the longest wait of
 * another machine, which sends one GETATTR after the other. On a busy machine, only the processor time means
 * something. But it leaves out how long the server waits for the disk: for that, see the longest time, with the
 * layers on a disk with other work.
 *
 * Needs Linux. The layers are in the directory for temporary files, which should be on a disk, and the
 * images are on a tmpfs, so that files cannot be cloned.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'

import { randomFillSync } from 'node:crypto'
import { FileSystemError, type FileSystem, type NodeId } from '../src/protocols/nfs/file-system.ts'
import { startNfsServer } from '../src/protocols/nfs/server.ts'
import { findNode } from '../src/roots/find-node.ts'
import { createImageIndexes, type ImageIndex } from '../src/roots/image-index.ts'
import {
  openMachineLayer,
  UnfinishedOpening,
  type MachineLayer,
} from '../src/roots/machine-layer.ts'
import { createPathCache } from '../src/roots/path-cache.ts'
import { newName, writeRecord } from '../src/roots/record.ts'
import type { RootImage } from '../src/roots/root-image.ts'
import { UnreadyLayer } from '../src/roots/unready-layer.ts'
import { beginTable, measured } from './report.ts'
import type { Stretch } from './stretch-client.ts'
import { watchTurns } from './turns.ts'

const wanted = process.argv.slice(2)
const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-stretch-'))
const images = mkdtempSync('/dev/shm/netimage-bench-stretch-')
const never = new AbortController().signal
const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
/** The machine that works, and the other one. */
const [working, other] = ['127.0.0.2', '127.0.0.1']

/** Prepares the work. @returns the work that is measured */
type Work = () => Promise<() => Promise<unknown>>

const open = new Map<string, { layer: MachineLayer; index: ImageIndex }>()
let indexes = createImageIndexes()
let count = 0

function makeTree(files: Record<string, number>): string {
  const tree = join(images, String(++count))
  mkdirSync(join(tree, 'nix/store'), { recursive: true })
  for (const [path, names] of Object.entries(files)) {
    mkdirSync(join(tree, path), { recursive: true })
    for (let name = 0; name < names; name++) symlinkSync('x', join(tree, path, `name-${name}`))
  }
  return tree
}

/** @param storePaths by their names, how many files each has */
function makeImage(files: Record<string, number>, storePaths: Record<string, number> = {}) {
  const outside = makeTree(files)
  const placed = Object.entries(storePaths).map(([name, names]) => {
    const at = join(makeTree({ files: names }), 'files')
    return { name, narHash: `sha256:${name}`, at }
  })
  const image: RootImage = { id: String(count).padStart(64, '0'), outside, storePaths: placed }
  return image
}

/** Opens the layer of a machine as the server does. */
async function openLayer(machine: string, image: RootImage, boot: string): Promise<FileSystem> {
  for (;;) {
    await indexes.prepare(image)
    const index = indexes.open(image)
    const { outside } = image
    let layer: MachineLayer | UnreadyLayer | undefined = openMachineLayer({
      ...{ state: directory, machine, boot, index },
      image: { directory: outside, name: 'root', toplevel: '/nix/store/system' },
    })
    if (layer instanceof UnreadyLayer) {
      await layer.makeReady(never)
      layer = layer instanceof UnfinishedOpening ? layer.opened : undefined
    }
    if (layer) {
      open.set(machine, { layer, index })
      return layer.fileSystem
    }
    index.close()
  }
}

async function closeLayer(machine: string): Promise<void> {
  const opened = open.get(machine)
  open.delete(machine)
  await opened?.layer.close()
  opened?.index.close()
}

/** Asks again while the server looks at a large store path. */
async function nodeAt(system: FileSystem, path: string): Promise<NodeId> {
  for (;;) {
    try {
      const node = findNode(system, path.split('/'))
      if (node === undefined) throw new Error(`${path} is missing`)
      system.attributes(node)
      return node
    } catch (error) {
      if (!(error instanceof FileSystemError && error.until)) throw error
      await error.until
    }
  }
}

/** Does the action for each number in transactions of a thousand. */
async function repeat(system: FileSystem, times: number, action: (number: number) => void) {
  for (let number = 0; number < times;) {
    const end = Math.min(times, number + 1000)
    system.together(() => {
      for (; number < end; number++) action(number)
    })
    // Nothing can be changed while the log is emptied.
    await system.stable()
  }
}

const nameOf = (number: number) => Buffer.from(`name-${number}`)

async function makeNames(system: FileSystem, path: string, names: number): Promise<void> {
  const at = await nodeAt(system, path)
  await repeat(system, names, (number) => system.create(at, nameOf(number), made))
}

async function removeNames(system: FileSystem, path: string, names: number): Promise<void> {
  const at = await nodeAt(system, path)
  await repeat(system, names, (number) => system.remove(at, nameOf(number)))
}

/** A layer of the oldest format with names that the machine made in its root. */
function writeOldLayer(image: RootImage, names: number): void {
  const id = image.id.slice(0, 16)
  const layer = join(directory, 'layers', working, id)
  const name = newName()
  mkdirSync(join(layer, name, 'data'), { recursive: true })
  const database = new DatabaseSync(join(layer, name, 'layer.sqlite'))
  database.exec(`PRAGMA journal_mode = WAL; BEGIN; ${oldSchema}`)
  const node = database.prepare(
    `INSERT INTO nodes VALUES (?, 'file', 420, 0, 0, 1, 0, 0, 0, NULL, 0, 1, 0, 1, 0, 1, 0)`,
  )
  const entry = database.prepare('INSERT INTO entries VALUES (1, ?, ?, ?)')
  const [first, cookie] = [2 ** 40, 2 ** 32]
  for (let number = 0; number < names; number++) {
    node.run(first + number)
    entry.run(nameOf(number), first + number, cookie + number)
  }
  const meta = { format: 1, nextNode: first + names, nextCookie: cookie + names }
  for (const [key, value] of Object.entries(meta))
    database.prepare('INSERT INTO meta VALUES (?, ?)').run(key, value)
  database.exec('COMMIT')
  database.close()
  const { outside } = image
  const record = { name, machine: working, created: 1, lastUsed: 1 }
  const place = { directory: outside, name: 'root', toplevel: '/nix/store/system', id: image.id }
  writeRecord(layer, { ...record, image: place })
}

const oldSchema = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE nodes (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, links INTEGER NOT NULL, major INTEGER NOT NULL, minor INTEGER NOT NULL,
    parent INTEGER NOT NULL, target BLOB, own_data INTEGER NOT NULL,
    accessed_s INTEGER NOT NULL, accessed_ns INTEGER NOT NULL, modified_s INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL, changed_s INTEGER NOT NULL, changed_ns INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE entries (
    directory INTEGER NOT NULL, name BLOB NOT NULL, node INTEGER, cookie INTEGER NOT NULL,
    PRIMARY KEY (directory, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX entries_by_cookie ON entries (directory, cookie);
  CREATE TABLE replies (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, reply BLOB NOT NULL
  ) STRICT;
`

/** Starts the machine that works, and lets it do something. */
async function tell(words: readonly string[], client: ChildProcess): Promise<void> {
  client.send([...words])
  await once(client, 'message')
}

async function withClient(prepared: () => Promise<readonly string[]>) {
  const words = await prepared()
  const client = await startClient(working)
  return () => tell(words, client).finally(() => client.disconnect())
}

const works: Record<string, Work> = {
  nothing: async () => async () => {
    for (let turns = 0; turns < 200; turns++) await turn()
  },
  'opening a layer with 300,000 names and 20,000 files with data': async () => {
    const image = makeImage({ etc: 0 })
    const system = await openLayer(working, image, '1')
    await makeNames(system, 'etc', 280_000)
    const at = await nodeAt(system, 'nix')
    await repeat(system, 20_000, (number) => {
      const node = system.create(at, nameOf(number), made)
      system.write(node, 0, Buffer.from('x'))
    })
    await closeLayer(working)
    return () => openLayer(working, image, '2')
  },
  'closing a layer after 20,000 new names': async () => {
    const system = await openLayer(working, makeImage({ etc: 0 }), '1')
    await makeNames(system, 'etc', 20_000)
    return () => closeLayer(working)
  },
  'binding a layer with 200,000 names in a store path to another image': async () => {
    const image = makeImage({ etc: 0 }, { path: 0 })
    const system = await openLayer(working, image, '1')
    await makeNames(system, 'nix/store/path', 200_000)
    await closeLayer(working)
    const next = { ...image, id: 'f'.repeat(64) }
    return () => openLayer(working, next, '2')
  },
  'opening an image with 100,000 files outside the store': async () => {
    const image = makeImage({ etc: 100_000 })
    return () => openLayer(working, image, '1')
  },
  'binding a layer to another image with 100,000 other files outside the store': async () => {
    await openLayer(working, makeImage({ etc: 100_000 }), '1')
    await closeLayer(working)
    const next = makeImage({ srv: 100_000 })
    return () => openLayer(working, next, '2')
  },
  'opening again a layer that has changed a file of each of 40 store paths of 5,000 files':
    async () => {
      const paths = Array.from({ length: 40 }, (_, number) => [`path-${number}`, 5000] as const)
      const image = makeImage({ etc: 0 }, Object.fromEntries(paths))
      const system = await openLayer(working, image, '1')
      for (const [path] of paths)
        system.setAttributes(await nodeAt(system, `nix/store/${path}/name-7`), { uid: 7 })
      await closeLayer(working)
      return () => openLayer(working, image, '1')
    },
  'binding a layer that has given a file of a store path of 100,000 files another name':
    async () => {
      const image = makeImage({ etc: 0 }, { path: 100_000 })
      const system = await openLayer(working, image, '1')
      const own = { ...made, kind: 'directory' } as const
      const at = system.create(await nodeAt(system, 'nix/store'), Buffer.from('own'), own)
      system.link(await nodeAt(system, 'nix/store/path/name-7'), at, nameOf(1))
      await closeLayer(working)
      return () => openLayer(working, image, '2')
    },
  'using three store paths of 50,000 files in turn, with room for two': async () => {
    indexes = createImageIndexes({ cache: createPathCache(100_000) })
    const paths = { a: 50_000, b: 50_000, c: 50_000 }
    const system = await openLayer(working, makeImage({ etc: 0 }, paths), '1')
    return async () => {
      for (const path of [...Object.keys(paths), ...Object.keys(paths)])
        await nodeAt(system, `nix/store/${path}/name-7`)
    }
  },
  'booting for the first time': async () => {
    const image = makeImage({ etc: 0 })
    return () => openLayer(working, image, '1')
  },
  'booting again': async () => {
    const image = makeImage({ etc: 0 })
    await openLayer(working, image, '1')
    await closeLayer(working)
    return () => openLayer(working, image, '2')
  },
  'the first LOOKUP in a store path of 100,000 files': () =>
    withClient(async () => {
      await openLayer(working, makeImage({ etc: 0 }, { path: 100_000 }), '1')
      return ['look up', 'nix', 'store', 'path', 'name-7']
    }),
  'listing 100,000 names of the image by READDIRPLUS': () =>
    withClient(async () => {
      const system = await openLayer(working, makeImage({ etc: 0 }, { path: 100_000 }), '1')
      await nodeAt(system, 'nix/store/path/name-7')
      return ['list', 'nix', 'store', 'path']
    }),
  'listing 100,000 names of the machine by READDIRPLUS': () =>
    withClient(async () => {
      const image = makeImage({ etc: 0 })
      const system = await openLayer(working, image, '1')
      await makeNames(system, 'etc', 100_000)
      await closeLayer(working)
      await openLayer(working, image, '1')
      return ['list', 'etc']
    }),
  'listing 100,000 names of the image that were removed, by READDIRPLUS': () =>
    withClient(async () => {
      const system = await openLayer(working, makeImage({ etc: 0 }, { path: 100_000 }), '1')
      await removeNames(system, 'nix/store/path', 100_000)
      return ['list', 'nix', 'store', 'path']
    }),
  'RMDIR of a directory of the image whose 100,000 names were removed': () =>
    withClient(async () => {
      const system = await openLayer(working, makeImage({ etc: 0 }, { path: 100_000 }), '1')
      await removeNames(system, 'nix/store/path', 100_000)
      return ['rmdir', 'nix', 'store', 'path']
    }),
  'the first WRITE to a file of 256 MiB of the image': () =>
    withClient(async () => {
      const image = makeImage({ etc: 0 })
      const file = join(image.outside, 'file')
      const piece = randomFillSync(Buffer.alloc(2 ** 20))
      writeFileSync(file, piece)
      for (let at = 1; at < 256; at++) writeFileSync(file, piece, { flag: 'a' })
      await openLayer(working, image, '1')
      return ['write', 'file']
    }),
  'the first WRITE to a file of 1 MiB of the image': () =>
    withClient(async () => {
      const image = makeImage({ etc: 0 })
      writeFileSync(join(image.outside, 'file'), randomFillSync(Buffer.alloc(2 ** 20)))
      await openLayer(working, image, '1')
      return ['write', 'file']
    }),
  '20,000 new files, 16 at a time': async () => {
    const system = await openLayer(working, makeImage({ etc: 0 }), '1')
    const at = await nodeAt(system, 'etc')
    return async () => {
      for (let number = 0; number < 20_000;) {
        for (let each = 0; each < 16; each++) {
          const node = system.create(at, nameOf(number++), made)
          system.write(node, 0, Buffer.from('x'))
        }
        await system.stable()
      }
    }
  },
  'removing a file of 1 GiB': async () => {
    const system = await openLayer(working, makeImage({ etc: 0 }), '1')
    const at = await nodeAt(system, 'etc')
    const node = system.create(at, nameOf(1), made)
    const piece = Buffer.alloc(2 ** 20, 1)
    for (let megabyte = 0; megabyte < 1024; megabyte++)
      system.write(node, megabyte * 2 ** 20, piece)
    await system.commit(node)
    return async () => {
      system.remove(at, nameOf(1))
      await system.stable()
    }
  },
  'bringing a layer of the oldest format with 100,000 names to the present format': async () => {
    const image = makeImage({ etc: 0 })
    writeOldLayer(image, 100_000)
    return () => openLayer(working, image, '1')
  },
}

const server = await startNfsServer({
  address: '127.0.0.1',
  ports: { nfs: 0 },
  machineOf({ address }) {
    const layer = open.get(address)?.layer
    const exports = layer ? [exportOf(layer)] : []
    return layer ? { name: address, exports } : 'busy'
  },
  handleKey: Buffer.alloc(32),
  report: () => {},
  onError: (error) => void process.stderr.write(`${error.message}\n`),
})

const exported = new WeakMap<
  MachineLayer,
  { path: string; layer: string; fileSystem: FileSystem }
>()
function exportOf(layer: MachineLayer) {
  const known = exported.get(layer) ?? {
    ...{ path: '/root', layer: layer.name, fileSystem: layer.fileSystem },
  }
  exported.set(layer, known)
  return known
}

async function startClient(address: string): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'stretch-client.ts')
  const client = fork(program, [String(server.ports.nfs), address])
  await once(client, 'message')
  return client
}

try {
  await openLayer(other, makeImage({ etc: 0 }), '1')
  const client = await startClient(other)
  await measured(() => measureAll(client))
  client.disconnect()
  await closeLayer(other)
} finally {
  await server.close()
  rmSync(directory, { recursive: true })
  rmSync(images, { recursive: true })
}

async function measureAll(client: ChildProcess): Promise<void> {
  const columns = ['longest turn', 'its processor time', 'longest GETATTR', 'all']
  const printRow = beginTable('work of one machine', columns)
  for (const [name, prepare] of Object.entries(works)) {
    if (wanted.length > 0 && !wanted.some((each) => name.includes(each))) continue
    const work = await prepare()
    client.send('begin')
    await turn()
    const end = watchTurns()
    const started = performance.now()
    await work()
    const seconds = (performance.now() - started) / 1000
    await turn()
    const { longest, busiest } = end()
    client.send('end')
    const [answer] = await once(client, 'message')
    const { longest: wait }: Stretch = answer
    const figures = [longest, busiest, wait].map((figure) => `${figure.toFixed(1)} ms`)
    printRow(name, [...figures, `${seconds.toFixed(2)} s`])
    await closeLayer(working)
    rmSync(join(directory, 'layers', working), { recursive: true, force: true })
    indexes = createImageIndexes()
  }
}
