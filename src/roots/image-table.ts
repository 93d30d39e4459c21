/**
 * The nodes and names of a tree as columns of numbers. A file takes about 170 bytes; as an object
 * it would take four times as much.
 */
import { createHash, hash } from 'node:crypto'

import { nodeKinds, type Device, type NodeKind, type Time } from '../protocols/nfs/file-system.ts'
import type { Steps } from './steps.ts'

export interface ImageTable {
  /** A row for each node. The first node, 1, is the top of the tree. */
  rows: Float64Array
  /** The entries of each directory stand together, in the order of the bytes of their names. */
  entries: {
    node: Float64Array
    /** Where the name ends in `names`. The name begins where the name of the entry before ends. */
    end: Float64Array
    names: Buffer
  }
}

/** The place of each value in a row. */
export const column = {
  ...{ kind: 0, mode: 1, uid: 2, gid: 3, links: 4, size: 5, used: 6, major: 7, minor: 8 },
  ...{ seconds: 9, nanoseconds: 10, parent: 11 },
  /** The first entry that names the node. The top has none. */
  entry: 12,
  firstChild: 13,
  childCount: 14,
  /** Together with the size and the time, these tell the file from any other file. */
  fileSystem: 15,
  inode: 16,
} as const

export const rowWidth = 17
export const noEntry = -1

export const directoryKind = nodeKinds.indexOf('directory')

const slash = Buffer.from('/')

export function rowStart(node: number): number {
  return (node - 1) * rowWidth
}

export function countNodes({ rows }: ImageTable): number {
  return rows.length / rowWidth
}

export interface Facts {
  kind: NodeKind
  mode: number
  uid: number
  gid: number
  links: number
  /** Bytes. */
  size: number
  /** Bytes on the disk. */
  used: number
  device: Device
  modified: Time
}

/** @returns undefined if the table has no such node */
export function factsOf(rows: Float64Array, node: number): Facts | undefined {
  const place = rowStart(node)
  const kind = nodeKinds[rows[place + column.kind] ?? -1]
  if (kind === undefined) return undefined
  return {
    kind,
    mode: rows[place + column.mode] ?? 0,
    uid: rows[place + column.uid] ?? 0,
    gid: rows[place + column.gid] ?? 0,
    links: rows[place + column.links] ?? 0,
    size: rows[place + column.size] ?? 0,
    used: rows[place + column.used] ?? 0,
    device: { major: rows[place + column.major] ?? 0, minor: rows[place + column.minor] ?? 0 },
    modified: {
      seconds: rows[place + column.seconds] ?? 0,
      nanoseconds: rows[place + column.nanoseconds] ?? 0,
    },
  }
}

export interface TableChild {
  name: Buffer
  node: number
}

/** @returns undefined if the directory has fewer names, or is no directory */
export function childAt(
  { rows, entries }: ImageTable,
  node: number,
  place: number,
): TableChild | undefined {
  const row = rowStart(node)
  if (!(place >= 0 && place < (rows[row + column.childCount] ?? 0))) return undefined
  const entry = (rows[row + column.firstChild] ?? 0) + place
  return { name: Buffer.from(nameOf({ rows, entries }, entry)), node: entries.node[entry] ?? 0 }
}

export function childOf(
  { rows, entries }: ImageTable,
  node: number,
  name: Buffer,
): number | undefined {
  const row = rowStart(node)
  let from = rows[row + column.firstChild] ?? 0
  for (let to = from + (rows[row + column.childCount] ?? 0); from < to;) {
    const middle = (from + to) >>> 1
    const order = compareName(entries, middle, name)
    if (order === 0) return entries.node[middle]
    if (order < 0) from = middle + 1
    else to = middle
  }
  return undefined
}

/** Compares the name of an entry with another name. For names, this is faster than `Buffer.compare`. */
function compareName({ end, names }: ImageTable['entries'], entry: number, name: Buffer): number {
  const start = entry === 0 ? 0 : (end[entry - 1] ?? 0)
  const length = (end[entry] ?? 0) - start
  const shorter = Math.min(length, name.length)
  for (let at = 0; at < shorter; at++) {
    const difference = (names[start + at] ?? 0) - (name[at] ?? 0)
    if (difference !== 0) return difference
  }
  return length - name.length
}

/** The path of the node below the top, with a slash before each name. */
export function pathBelow(table: ImageTable, node: number): Buffer {
  const { rows } = table
  const parts: Buffer[] = []
  for (let at = node; ; at = rows[rowStart(at) + column.parent] ?? 1) {
    const entry = rows[rowStart(at) + column.entry] ?? noEntry
    if (entry === noEntry) return Buffer.concat(parts)
    parts.unshift(slash, nameOf(table, entry))
  }
}

/** The paths of all nodes as `pathBelow` gives them, in Latin-1 and by the numbers of the nodes. */
export function* pathsInSteps(table: ImageTable): Steps<string[]> {
  const { rows, entries } = table
  const paths = ['', '']
  // A directory has a smaller number than what is in it.
  for (let node = 2; node <= countNodes(table); node++) {
    const row = rowStart(node)
    const above = paths[rows[row + column.parent] ?? 1] ?? ''
    const [start, end] = rangeOf(entries, rows[row + column.entry] ?? 0)
    paths.push(`${above}/${entries.names.toString('latin1', start, end)}`)
    if (node % pathsOfStep === 0) yield
  }
  return paths
}

/** The name of an entry, valid only as long as the table. */
export function nameOf({ entries }: ImageTable, entry: number): Buffer {
  return entries.names.subarray(...rangeOf(entries, entry))
}

function rangeOf({ end }: ImageTable['entries'], entry: number): [start: number, end: number] {
  return [entry === 0 ? 0 : (end[entry - 1] ?? 0), end[entry] ?? 0]
}

/** A hash of everything that decides the numbers of the nodes: names, entries and nodeKinds. */
export function* structureInSteps({ rows, entries }: ImageTable): Steps<string> {
  const kindsInOrder = new Float64Array(rows.length / rowWidth)
  for (let at = 0; at < kindsInOrder.length; at++) {
    kindsInOrder[at] = rows[at * rowWidth + column.kind] ?? 0
    if (at % rowsOfStep === 0) yield
  }
  const hashes: string[] = []
  for (const part of [entries.node, entries.end, entries.names, kindsInOrder]) {
    hashes.push(yield* hashInSteps(part))
  }
  return hash('sha256', hashes.join())
}

/**
 * Two tables have the same hash if all their files and symlinks are the same files.
 *
 * @param structure of the table
 */
export function* filesInSteps({ rows }: ImageTable, structure: string): Steps<string> {
  const told = new Float64Array((rows.length / rowWidth) * identifying.length)
  let length = 0
  for (let place = 0; place < rows.length; place += rowWidth) {
    if (place % (rowsOfStep * rowWidth) === 0) yield
    if (rows[place + column.kind] === directoryKind) continue
    for (const at of identifying) told[length++] = rows[place + at] ?? 0
  }
  return hash('sha256', structure + (yield* hashInSteps(told.subarray(0, length))))
}

const rowsOfStep = 4096
const pathsOfStep = 16
const hashedAtOnce = 2 ** 20

function* hashInSteps({ buffer, byteOffset, byteLength }: ArrayBufferView): Steps<string> {
  const all = new Uint8Array(buffer, byteOffset, byteLength)
  if (byteLength <= hashedAtOnce) return hash('sha256', all)
  const hashing = createHash('sha256')
  for (let at = 0; at < byteLength; at += hashedAtOnce) {
    hashing.update(all.subarray(at, at + hashedAtOnce))
    yield
  }
  return hashing.digest('hex')
}

/** The columns that tell a file from any other file, and from its later versions. */
export const identifying = [
  ...[column.kind, column.size, column.seconds, column.nanoseconds],
  ...[column.fileSystem, column.inode],
]
