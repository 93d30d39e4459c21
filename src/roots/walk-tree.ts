/** Walks trees of files into tables: see image-table.ts. */
import { lstatSync, readdirSync, type BigIntStats, type Dirent } from 'node:fs'

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

const slash = Buffer.from('/')

/** Files of this user and group belong to root on the machine. */
export type Owner = Pick<BigIntStats, 'uid' | 'gid' | 'dev'>

export interface Walk {
  owner: Owner
  /** Whether the names of hard links lead to one node. Otherwise each name is a node of its own. */
  mergesLinks: boolean
  /** Names to leave out. Called with the path of the directory and each of its entries. */
  leavesOut?: (directory: Buffer, entry: Dirent<Buffer>) => boolean
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

/** Walks the tree. Each walk of the same tree gives the nodes the same numbers. */
export function walkTree(
  root: Buffer,
  { owner, mergesLinks, leavesOut, adds, tooMany }: Walk,
): ImageTable {
  const rows: number[] = []
  const entries: { node: number[]; end: number[] } = { node: [], end: [] }
  const names: Buffer[] = []
  const byInode = new Map<bigint, number>()
  let nextName = 0

  function add(path: Buffer, parent: number, entry: number): number {
    const stat = lstatSync(path, { bigint: true })
    const mayHaveOtherNames =
      mergesLinks && !stat.isDirectory() && stat.nlink > 1n && stat.dev === owner.dev
    const known = mayHaveOtherNames ? byInode.get(stat.ino) : undefined
    if (known !== undefined) {
      const links = rowStart(known) + column.links
      rows[links] = (rows[links] ?? 0) + 1
      return known
    }
    const node = rows.length / rowWidth + 1
    if (tooMany && node > tooMany.most) tooMany.refuse()
    rows.push(...rowOf(stat, owner, parent || node, entry))
    if (mayHaveOtherNames) byInode.set(stat.ino, node)
    if (stat.isDirectory()) addChildren(path, node)
    return node
  }

  function addChildren(path: Buffer, node: number): void {
    const own = namesIn(path).map((name) => ({ name, at: Buffer.concat([path, slash, name]) }))
    const found = [...own, ...(adds?.(path) ?? [])].sort((a, b) => a.name.compare(b.name))
    const first = entries.node.length
    for (const { name } of found) {
      names.push(name)
      entries.node.push(0)
      entries.end.push((nextName += name.length))
    }
    let subdirectories = 0
    for (const [index, { at }] of found.entries()) {
      const child = add(at, node, first + index)
      entries.node[first + index] = child
      if (rows[rowStart(child) + column.kind] === directoryKind) subdirectories++
    }
    rows[rowStart(node) + column.links] = 2 + subdirectories
    rows[rowStart(node) + column.firstChild] = first
    rows[rowStart(node) + column.childCount] = found.length
  }

  function namesIn(path: Buffer): Buffer[] {
    if (!leavesOut) return readdirSync(path, { encoding: 'buffer' })
    return readdirSync(path, { encoding: 'buffer', withFileTypes: true })
      .filter((entry) => !leavesOut(path, entry))
      .map(({ name }) => name)
  }

  add(root, 0, noEntry)
  return {
    rows: Float64Array.from(rows),
    entries: {
      node: Float64Array.from(entries.node),
      end: Float64Array.from(entries.end),
      names: Buffer.concat(names),
    },
  }
}

/** The row of a directory as `walkTree` would make it, but without a look below its entries. */
export function lookAtDirectory(path: Buffer, owner: Owner): Float64Array {
  const stat = lstatSync(path, { bigint: true })
  const row = rowOf(stat, owner, 1, noEntry)
  const inside = readdirSync(path, { encoding: 'buffer', withFileTypes: true })
  row[column.links] = 2 + inside.filter((entry) => entry.isDirectory()).length
  return Float64Array.from(row)
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
