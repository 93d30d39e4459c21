/**
 * The nodes and names of a tree as columns of numbers. A file takes about 170 bytes; as an object
 * it would take four times as much.
 */
import { hash } from 'node:crypto'
import { lstatSync, readdirSync, type BigIntStats } from 'node:fs'

import type { Device, NodeId, NodeKind, Time } from '../protocols/nfs/file-system.ts'

export interface ImageTable {
  /** A row for each node, from node 1 on. */
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
  /** The first entry that names the node. The root has none. */
  entry: 12,
  firstChild: 13,
  childCount: 14,
  /** Together with the size and the time, these tell the file from any other file. */
  fileSystem: 15,
  inode: 16,
} as const

export const rowWidth = 17
export const noEntry = -1

export const kinds: readonly NodeKind[] = [
  ...(['file', 'directory', 'symlink', 'character', 'block', 'fifo', 'socket'] as const),
]

const slash = Buffer.from('/')

/** Walks the tree. Each walk of the same tree gives the nodes the same numbers. */
export function walkTree(root: string): ImageTable {
  const rows: number[] = []
  const entries: { node: number[]; end: number[] } = { node: [], end: [] }
  const names: Buffer[] = []
  const byInode = new Map<bigint, NodeId>()
  const top = lstatSync(root, { bigint: true })
  let nextName = 0

  function add(path: Buffer, parent: NodeId, entry: number): NodeId {
    const stat = lstatSync(path, { bigint: true })
    const mayHaveOtherNames = !stat.isDirectory() && stat.nlink > 1n && stat.dev === top.dev
    const known = mayHaveOtherNames ? byInode.get(stat.ino) : undefined
    if (known !== undefined) {
      const links = placeOf(known) + column.links
      rows[links] = (rows[links] ?? 0) + 1
      return known
    }
    const node = rows.length / rowWidth + 1
    rows.push(...describe(stat, top), parent || node, entry, 0, 0)
    rows.push(Number(stat.dev), Number(stat.ino))
    if (mayHaveOtherNames) byInode.set(stat.ino, node)
    if (stat.isDirectory()) addChildren(path, node)
    return node
  }

  function addChildren(path: Buffer, node: NodeId): void {
    const found = readdirSync(path, { encoding: 'buffer' }).sort((a, b) => a.compare(b))
    const first = entries.node.length
    for (const name of found) {
      names.push(name)
      entries.node.push(0)
      entries.end.push((nextName += name.length))
    }
    let subdirectories = 0
    for (const [index, name] of found.entries()) {
      const child = add(Buffer.concat([path, slash, name]), node, first + index)
      entries.node[first + index] = child
      if (rows[placeOf(child) + column.kind] === kinds.indexOf('directory')) subdirectories++
    }
    rows[placeOf(node) + column.links] = 2 + subdirectories
    rows[placeOf(node) + column.firstChild] = first
    rows[placeOf(node) + column.childCount] = found.length
  }

  add(Buffer.from(root), 0, noEntry)
  return {
    rows: Float64Array.from(rows),
    entries: {
      node: Float64Array.from(entries.node),
      end: Float64Array.from(entries.end),
      names: Buffer.concat(names),
    },
  }
}

export function placeOf(node: NodeId): number {
  return (node - 1) * rowWidth
}

/** A hash of everything that decides the numbers of the nodes: names, entries and kinds. */
export function structureOf({ rows, entries }: ImageTable): string {
  const kindsInOrder = rows.filter((_, index) => index % rowWidth === column.kind)
  const parts = [entries.node, entries.end, entries.names, kindsInOrder]
  return hash('sha256', parts.map((part) => hash('sha256', part)).join())
}

/** Whether `stat` is of the file that the row describes, unchanged. */
export function isSameFile(rows: Float64Array, node: NodeId, stat: BigIntStats): boolean {
  const place = placeOf(node)
  const { seconds, nanoseconds } = timeOf(stat)
  const columns: [number, number][] = [
    [column.kind, kinds.indexOf(kindOf(stat))],
    [column.size, Number(stat.size)],
    [column.seconds, seconds],
    [column.nanoseconds, nanoseconds],
    [column.fileSystem, Number(stat.dev)],
    [column.inode, Number(stat.ino)],
  ]
  return columns.every(([at, value]) => rows[place + at] === value)
}

function timeOf({ mtimeMs, mtimeNs }: BigIntStats): Time {
  const seconds = Math.floor(Number(mtimeMs) / 1000)
  return { seconds, nanoseconds: Number(mtimeNs - BigInt(seconds) * 1_000_000_000n) }
}

/** The columns up to `nanoseconds`. */
function describe(stat: BigIntStats, top: BigIntStats): number[] {
  const kind = kindOf(stat)
  const isDevice = kind === 'character' || kind === 'block'
  const { major, minor } = isDevice ? deviceOf(stat.rdev) : { major: 0, minor: 0 }
  const { seconds, nanoseconds } = timeOf(stat)
  return [
    kinds.indexOf(kind),
    Number(stat.mode & 0o7777n),
    // Images are made without root: files of the user who made the image belong to root on the
    // machine.
    stat.uid === top.uid ? 0 : Number(stat.uid),
    stat.gid === top.gid ? 0 : Number(stat.gid),
    1,
    Number(stat.size),
    Number(stat.blocks * 512n),
    major,
    minor,
    seconds,
    nanoseconds,
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
