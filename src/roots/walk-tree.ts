/** Walks trees of files into tables: see image-table.ts. */
import { lstatSync, opendirSync, readdirSync, type BigIntStats, type Dirent } from 'node:fs'

import { nodeKinds, type Device, type NodeKind, type Time } from '../protocols/nfs/file-system.ts'
import {
  column,
  directoryKind,
  identifying,
  noEntry,
  rowStart,
  rowWidth,
  type ImageTable,
} from './image-table.ts'
import { sortInSteps } from './sort-in-steps.ts'
import type { Steps } from './steps.ts'

const slash = Buffer.from('/')

/** Files of this user and group belong to root on the machine. */
export type Owner = Pick<BigIntStats, 'uid' | 'gid' | 'dev'>

export interface Walk {
  owner: Owner
  /** Whether the names of hard links lead to one node. Otherwise each name is a node of its own. */
  mergesLinks: boolean
  /** Called with the path of a directory. @returns whether an entry is left out; names are in Latin-1 */
  leavesOutOf?: (directory: Buffer) => ((entry: Dirent) => boolean) | undefined
  /** Names that a directory gets, and the files that they lead to. Called with its path. */
  adds?: (directory: Buffer) => readonly AddedName[]
  /** Called if the tree has more nodes than `most`: throws. */
  tooMany?: { most: number; refuse: () => never }
}

export interface AddedName {
  name: Buffer
  /** The path on the disk. */
  at: Buffer
}

/** As many nodes are looked at in one step: a yield passes through all directories above, which takes long. */
export const nodesOfStep = 32
/** As much of a walk is done at once: enough for a thousand nodes. Most store paths have fewer. */
export const atFirst = { steps: 40 }
/** As many names of a large directory are read in one step. */
const namesOfStep = 256
/**
 * The bytes of a directory whose names are read in several steps, which takes longer. On most file systems,
 * a directory of this size has more than a thousand names.
 */
const largeDirectory = 2 ** 16
/** Rows that are kept together until all are known. */
const rowsOfChunk = 4096

/** Walks the tree. Each walk of the same tree gives the nodes the same numbers. */
export function* walkInSteps(
  root: Buffer,
  { owner, mergesLinks, leavesOutOf, adds, tooMany }: Walk,
): Steps<ImageTable> {
  const rows = createRows()
  const entries: { node: number[]; end: number[] } = { node: [], end: [] }
  const names: string[] = []
  const byInode = new Map<bigint, number>()
  let nextName = 0

  function* add(path: Buffer, parent: number, entry: number): Steps<number> {
    const stat = lstatSync(path, { bigint: true })
    const mayHaveOtherNames =
      mergesLinks && !stat.isDirectory() && stat.nlink > 1n && stat.dev === owner.dev
    const known = mayHaveOtherNames ? byInode.get(stat.ino) : undefined
    if (known !== undefined) {
      rows.set(known, column.links, rows.get(known, column.links) + 1)
      return known
    }
    const node = rows.count() + 1
    if (tooMany && node > tooMany.most) tooMany.refuse()
    rows.push(rowOf(stat, owner, parent || node, entry))
    if (mayHaveOtherNames) byInode.set(stat.ino, node)
    if (node % nodesOfStep === 0) yield
    if (stat.isDirectory()) yield* addChildren(path, node, stat.size)
    return node
  }

  function* addChildren(path: Buffer, node: number, size: bigint): Steps {
    const added = new Map(adds?.(path).map(({ name, at }) => [name.toString('latin1'), at]))
    const found = yield* sortInSteps([...(yield* namesIn(path, size)), ...added.keys()])
    const first = entries.node.length
    for (const name of found) {
      names.push(name)
      entries.node.push(0)
      entries.end.push((nextName += name.length))
    }
    let subdirectories = 0
    for (const [index, name] of found.entries()) {
      const at = added.get(name) ?? Buffer.concat([path, slash, Buffer.from(name, 'latin1')])
      const child = yield* add(at, node, first + index)
      entries.node[first + index] = child
      if (rows.get(child, column.kind) === directoryKind) subdirectories++
    }
    rows.set(node, column.links, 2 + subdirectories)
    rows.set(node, column.firstChild, first)
    rows.set(node, column.childCount, found.length)
  }

  /** In Latin-1, which has a letter for each byte. */
  function* namesIn(path: Buffer, size: bigint): Steps<string[]> {
    const isLarge = size > largeDirectory
    const leavesOut = leavesOutOf?.(path)
    if (!leavesOut && !isLarge) return readdirSync(path, 'latin1')
    const inside = isLarge
      ? yield* readInSteps(path)
      : readdirSync(path, { encoding: 'latin1', withFileTypes: true })
    const found = leavesOut ? inside.filter((entry) => !leavesOut(entry)) : inside
    return found.map(({ name }) => name)
  }

  yield* add(root, 0, noEntry)
  return {
    rows: yield* rows.join(),
    entries: {
      node: new Float64Array(entries.node),
      end: new Float64Array(entries.end),
      names: yield* joinNames(names, nextName),
    },
  }
}

function* readInSteps(path: Buffer): Steps<Dirent[]> {
  using directory = opendirSync(path, { encoding: 'latin1', bufferSize: namesOfStep })
  const all: Dirent[] = []
  for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
    all.push(entry)
    if (all.length % namesOfStep === 0) yield
  }
  return all
}

interface Rows {
  count(): number
  push(row: readonly number[]): void
  get(node: number, at: number): number
  set(node: number, at: number, value: number): void
  /** All rows, one after the other. */
  join(): Steps<Float64Array>
}

/** One array would be copied again and again while it grows, and each copy is a long step. */
function createRows(): Rows {
  const chunks: Float64Array[] = []
  let count = 0
  const chunkOf = (node: number) => chunks[Math.floor((node - 1) / rowsOfChunk)]
  const placeOf = (node: number) => ((node - 1) % rowsOfChunk) * rowWidth

  return {
    count: () => count,
    push(row) {
      if (count % rowsOfChunk === 0) chunks.push(new Float64Array(rowsOfChunk * rowWidth))
      count++
      chunkOf(count)?.set(row, placeOf(count))
    },
    get: (node, at) => chunkOf(node)?.[placeOf(node) + at] ?? 0,
    set(node, at, value) {
      const chunk = chunkOf(node)
      if (chunk) chunk[placeOf(node) + at] = value
    },
    *join() {
      const all = new Float64Array(count * rowWidth)
      for (const [index, chunk] of chunks.entries()) {
        const from = index * chunk.length
        all.set(chunk.subarray(0, all.length - from), from)
        yield
      }
      return all
    },
  }
}

/** @param names in Latin-1 */
function* joinNames(names: readonly string[], length: number): Steps<Buffer> {
  const all = Buffer.alloc(length)
  let end = 0
  for (const [index, name] of names.entries()) {
    end += all.write(name, end, 'latin1')
    if (index % rowsOfChunk === 0) yield
  }
  return all
}

/** The row of a directory as `walkInSteps` would make it, but without a look below its entries. */
export function lookAtDirectory(path: Buffer, owner: Owner): Float64Array {
  const stat = lstatSync(path, { bigint: true })
  const row = rowOf(stat, owner, 1, noEntry)
  const inside = readdirSync(path, { encoding: 'buffer', withFileTypes: true })
  row[column.links] = 2 + inside.filter((entry) => entry.isDirectory()).length
  return Float64Array.from(row)
}

/** Whether the directory has so many names that a look at them takes long. */
export function isLargeDirectory(path: Buffer): boolean {
  return lstatSync(path).size > largeDirectory
}

/** Whether `stat` is of the file that the row describes, unchanged. */
export function isSameFile(rows: Float64Array, node: number, stat: BigIntStats): boolean {
  const place = rowStart(node)
  const now = rowOf(stat, stat, 1, noEntry)
  return identifying.every((at) => rows[place + at] === now[at])
}

function timeOf({ mtimeMs, mtimeNs }: BigIntStats): Time {
  const seconds = Math.floor(Number(mtimeMs) / 1000)
  return { seconds, nanoseconds: Number(mtimeNs - BigInt(seconds) * 1_000_000_000n) }
}

function rowOf(stat: BigIntStats, owner: Owner, parent: number, entry: number): number[] {
  const kind = kindOf(stat)
  const isDevice = kind === 'character' || kind === 'block'
  const { major, minor } = isDevice ? deviceOf(stat.rdev) : { major: 0, minor: 0 }
  const { seconds, nanoseconds } = timeOf(stat)
  return [
    nodeKinds.indexOf(kind),
    Number(stat.mode & 0o7777n),
    // Images are made without root: files of the user who made the image belong to root on the
    // machine.
    stat.uid === owner.uid ? 0 : Number(stat.uid),
    stat.gid === owner.gid ? 0 : Number(stat.gid),
    1,
    Number(stat.size),
    Number(stat.blocks * 512n),
    ...[major, minor, seconds, nanoseconds, parent, entry],
    // `firstChild` and `childCount`
    ...[0, 0],
    ...[Number(stat.dev), Number(stat.ino)],
  ]
}

/** As gnu_dev_major(3) and gnu_dev_minor(3) of glibc do it. */
function deviceOf(rdev: bigint): Device {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
  }
}

function kindOf(stat: BigIntStats): NodeKind {
  if (stat.isDirectory()) return 'directory'
  if (stat.isFile()) return 'file'
  if (stat.isSymbolicLink()) return 'symlink'
  if (stat.isCharacterDevice()) return 'character'
  if (stat.isBlockDevice()) return 'block'
  return stat.isFIFO() ? 'fifo' : 'socket'
}
