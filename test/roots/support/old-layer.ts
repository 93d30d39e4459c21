// Layers that the version with format 1 made, and what it showed of them.
//
// `old-layers/NAME.sql` is the database, `NAME.jsonl` has the files with data and then the listing
// of the root. The layer `script` has changed files with several names, moved directories of store paths,
// deleted store paths and half-written files. The others are of random operations. All of them have
// left-overs of a server that was killed.

import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as v from 'valibot'
import type { BoundImage } from '../../../src/roots/bound-image.ts'
import type { FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'
import { type ImageIndex } from '../../../src/roots/image-index.ts'
import { newName, readRecord, writeRecord } from '../../../src/roots/record.ts'
import { verifyLayer } from '../../../src/roots/verify.ts'
import { oldStorePaths, makeOldImage } from './old-image.ts'
import { createIndex } from './tree-index.ts'
import { openMachineLayerNow } from './open-layer.ts'

const folder = join(import.meta.dirname, 'old-layers')

export const oldLayers = readdirSync(folder)
  .filter((name) => name.endsWith('.sql'))
  .map((name) => name.replace('.sql', ''))

const lineSchema = v.looseObject({
  path: v.string(),
  kind: v.string(),
  sameAs: v.optional(v.string()),
  links: v.optional(v.number()),
})

type Line = v.InferOutput<typeof lineSchema>

interface Shown {
  /** Of the data folder: texts as latin1, by the names of the files. */
  data: Record<string, string>
  lines: Line[]
}

/** What the version with format 1 showed. */
function readOldLayer(name: string): Shown {
  const text = readFileSync(join(folder, `${name}.jsonl`), 'utf8')
  const [data, ...lines] = text
    .trim()
    .split('\n')
    .map((line): unknown => JSON.parse(line))
  return {
    data: v.parse(v.record(v.string(), v.string()), data),
    lines: v.parse(v.array(lineSchema), lines),
  }
}

export const oldMachine = '10.0.0.7'
const id = 'image'.padEnd(16, '0').replaceAll(/[^0-9a-f]/g, '0')
const image = { directory: '/image', name: 'pi', toplevel: '/nix/store/system', id }

/** What `openMachineLayer` needs to open the layer. */
export function oldRequest(state: string, index: ImageIndex) {
  return { state, machine: oldMachine, image, index }
}

export function oldIndex(tree: string): ImageIndex {
  return createIndex(id, tree, { storePaths: oldStorePaths })
}

export interface OldLayer {
  state: string
  tree: string
  /** Of the layer. */
  directory: string
}

/**
 * Makes the image, and a state directory with the layer.
 *
 * @param over the image in the record of the layer; default: one that is found nowhere
 */
export function writeOldLayer(
  name: string,
  { state, tree }: { state: string; tree: string },
  over: BoundImage = image,
): OldLayer {
  process.umask(0o022)
  makeOldImage(tree)
  const directory = join(state, 'layers', oldMachine, id)
  const record = { name: newName(), machine: oldMachine, created: 1, lastUsed: 1 }
  writeContents(name, join(directory, record.name))
  writeRecord(directory, { ...record, image: over })
  return { state, tree, directory }
}

/**
 * @param directory of a layer of the earlier version: the first opening makes it the machine's layer
 * @returns its current contents
 */
export function contentsOf(layer: Pick<OldLayer, 'directory'>): string {
  const directory = directoryOf(layer)
  return join(directory, readRecord(directory)?.name ?? '')
}

/** Where the layer is now. */
export function directoryOf({ directory }: Pick<OldLayer, 'directory'>): string {
  return existsSync(directory) ? directory : join(dirname(directory), 'root')
}

/** Opens the layer. The machine must see what it saw before, and the layer must be whole. */
export async function assertSame(name: string, layer: OldLayer): Promise<void> {
  const index = oldIndex(layer.tree)
  const { lines: shown } = readOldLayer(name)
  const opened = openMachineLayerNow(oldRequest(layer.state, index))
  assert.deepEqual(asShown(listingOf(opened.fileSystem), shown), shown)
  await opened.close()
  assert.deepEqual(verifyLayer(contentsOf(layer), index).problems, [])
  index.close()
}

function writeContents(name: string, contents: string): void {
  mkdirSync(join(contents, 'data'), { recursive: true })
  const database = new DatabaseSync(join(contents, 'layer.sqlite'))
  database.exec(`PRAGMA journal_mode = WAL; BEGIN;`)
  database.exec(readFileSync(join(folder, `${name}.sql`), 'utf8'))
  database.exec('COMMIT')
  database.close()
  for (const [file, text] of Object.entries(readOldLayer(name).data)) {
    writeFileSync(join(contents, 'data', file), text, 'latin1')
  }
}

/** What is shown now, in the form of the old listing. */
export function listingOf(system: FileSystem): Line[] {
  const firsts = new Map<NodeId, string>()
  const lines: Line[] = []
  const add = (node: NodeId, path: string) => {
    const { kind, mode, uid, gid, links, size, device, modified } = system.attributes(node)
    const sameAs = firsts.get(node) ?? path
    firsts.set(node, sameAs)
    const bytes = Buffer.alloc(kind === 'file' ? size : 0)
    if (kind === 'file') system.read(node, 0, bytes)
    lines.push({
      ...{ path, kind, mode, uid, gid, modified: [modified.seconds, modified.nanoseconds] },
      ...(kind !== 'directory' && { size }),
      ...(kind === 'block' && { device }),
      ...(kind === 'symlink' && { target: system.readLink(node).toString('latin1') }),
      ...(kind === 'file' && { content: hash('sha256', bytes).slice(0, 16) }),
      ...{ links, sameAs },
    })
    if (kind !== 'directory') return
    const entries = [...system.list(node, 0)].sort((a, b) => a.name.compare(b.name))
    for (const { name, node: child } of entries) add(child, `${path}/${name.toString('latin1')}`)
  }
  add(system.root, '')
  return lines
}

/** The lines without links where the old listing has none. */
function asShown(lines: readonly Line[], shown: readonly Line[]): Line[] {
  const told = new Map(shown.map((line) => [line.path, line]))
  return lines.map(({ links, sameAs, ...line }) =>
    told.get(line.path)?.sameAs === undefined ? line : { ...line, links, sameAs },
  )
}
