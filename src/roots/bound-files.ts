/**
 * What the image that a layer was last bound to brought outside its store paths. The layer keeps
 * this, because at the next binding the changes of the machine are compared with it.
 */
import { hash } from 'node:crypto'

import { nodeKinds, type NodeId, type NodeKind, type Time } from '../protocols/nfs/file-system.ts'
import { escapeBytes } from '../tree-files.ts'
import { column, factsOf, nameOf, rowStart } from './image-table.ts'
import { outside, type ImageIndex } from './image-index.ts'
import type { Steps } from './steps.ts'
import type { LayerDatabase } from './database.ts'
import type { Numbering } from './layer-image.ts'

export interface BoundFile {
  /** Below the root, with a slash before each name; empty for the root itself. */
  path: Buffer
  /** Names of one file have the same number. */
  number: NodeId
  kind: NodeKind
  mode: number
  uid: number
  gid: number
  modified: Time
  /** Of a symbolic link. */
  target: Buffer | undefined
  /** Of a file: the same for the same bytes. */
  content: string | undefined
}

/** All names that the image of the index brings outside its store paths. */
export function* boundFilesOf(index: ImageIndex, { files }: Numbering): Steps<BoundFile[]> {
  const table = index.tableOf(outside)
  const found: BoundFile[] = []
  function* add(node: number, path: Buffer): Steps {
    yield
    const facts = factsOf(table.rows, node)
    if (!facts) return
    const { kind, mode, uid, gid, modified } = facts
    const digest = index.digests?.get(escapeBytes(path.subarray(1)))
    const otherwise = `${facts.size} ${modified.seconds} ${modified.nanoseconds}`
    found.push({
      ...{ path, number: files.numbers[node] ?? 0, kind, mode, uid, gid, modified },
      target: kind === 'symlink' ? index.readLink(outside, node) : undefined,
      content: kind === 'file' ? (digest ?? otherwise) : undefined,
    })
    const row = rowStart(node)
    const first = table.rows[row + column.firstChild] ?? 0
    const count = table.rows[row + column.childCount] ?? 0
    for (let entry = first; entry < first + count; entry++) {
      const name = Buffer.concat([path, Buffer.from('/'), nameOf(table, entry)])
      yield* add(table.entries.node[entry] ?? 0, name)
    }
  }
  yield* add(1, Buffer.alloc(0))
  return found
}

/** @returns no files if the layer does not know what its image brought */
export function* readBoundFiles(database: LayerDatabase): Steps<BoundFile[]> {
  const found: BoundFile[] = []
  for (const row of database.all('bound')) {
    found.push({
      path: bytesOf(row['path']) ?? Buffer.alloc(0),
      number: Number(row['number']),
      kind: nodeKinds.find((kind) => kind === row['kind']) ?? 'file',
      mode: Number(row['mode']),
      uid: Number(row['uid']),
      gid: Number(row['gid']),
      modified: { seconds: Number(row['seconds']), nanoseconds: Number(row['nanoseconds']) },
      target: bytesOf(row['target']),
      content: typeof row['content'] === 'string' ? row['content'] : undefined,
    })
    yield
  }
  return found
}

/** To be called in a transaction. */
export function* writeBoundFiles(database: LayerDatabase, files: readonly BoundFile[]): Steps {
  database.run('DELETE FROM bound')
  for (const { path, number, kind, mode, uid, gid, modified, target, content } of files) {
    database.run(
      'INSERT INTO bound VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[path, number, kind, mode, uid, gid, modified.seconds, modified.nanoseconds],
      ...[target ?? null, content ?? null],
    )
    yield
  }
}

/** The same if the store paths of two indexes have the same names and contents. */
export function storePathsHash({ storePaths }: ImageIndex): string {
  return hash('sha256', storePaths.map(({ name, narHash }) => `${name} ${narHash}\n`).join(''))
}

function bytesOf(value: unknown): Buffer | undefined {
  return value instanceof Uint8Array ? Buffer.from(value) : undefined
}
