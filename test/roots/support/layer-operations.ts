// Random operations on a layer and on a directory of this machine. Both must give the same answers
// and end with the same tree, because machines expect the behaviour of the kernel's file systems.

import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { errnoOf } from '../../../src/errors.ts'
import type { Attributes, FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'

/** The names on the path from the root. */
export type Path = readonly Buffer[]

export type Operation =
  | { kind: 'create' | 'mkdir' | 'chmod'; path: Path; mode: number }
  | { kind: 'symlink' | 'unlink' | 'rmdir' | 'list'; path: Path }
  | { kind: 'rename' | 'link'; path: Path; to: Path }
  | { kind: 'chown'; path: Path; uid: number; gid: number }
  | { kind: 'backdate'; path: Path; accessed: number; modified: number }
  | { kind: 'truncate'; path: Path; size: number }
  | { kind: 'write'; path: Path; offset: number; length: number; byte: number }

/** Few names, so that operations meet the same files. Names are bytes. */
const names = [Buffer.from('a'), Buffer.from('b'), Buffer.from('c'), Buffer.of(0xff, 0x64, 0x80)]
/** Targets of symlinks do not exist, so that no operation goes through a symlink. */
const target = 'nowhere'
const kinds = [
  ...(['create', 'create', 'mkdir', 'mkdir', 'symlink', 'unlink', 'rmdir', 'list'] as const),
  ...(['rename', 'rename', 'rename', 'link', 'link', 'write', 'write', 'truncate'] as const),
  ...(['chmod', 'chown', 'backdate', 'backdate'] as const),
]

/** The operation of a number: the same number always gives the same operation. */
export function operationOf(number: number): Operation {
  let state = number >>> 0
  // A hash of the counter, so that numbers next to each other give different operations.
  const random = (below: number) => {
    state = (Math.imul(state, 0x9e3779b1) + 0x7f4a7c15) >>> 0
    let mixed = state ^ (state >>> 15)
    mixed = Math.imul(mixed, 0x85ebca6b)
    return ((mixed ^ (mixed >>> 13)) >>> 0) % below
  }
  const pick = <T>(values: readonly T[]): T => {
    const value = values[random(values.length)]
    if (value === undefined) throw new Error('nothing to pick')
    return value
  }
  const randomPath = () => Array.from({ length: 1 + random(3) }, () => pick(names))
  const kind = pick(kinds)
  const path = randomPath()
  switch (kind) {
    case 'create':
    case 'mkdir':
    case 'chmod':
      // Without set-group-ID: the kernel lets new files inherit it, a layer does not.
      return { kind, path, mode: random(0o2000) }
    case 'symlink':
    case 'unlink':
    case 'rmdir':
    case 'list':
      return { kind, path }
    case 'rename':
    case 'link':
      return { kind, path, to: randomPath() }
    case 'chown':
      return { kind, path, uid: random(70_000), gid: random(70_000) }
    case 'backdate':
      return { kind, path, accessed: 1e9 + random(1e6) + 0.5, modified: random(1e9) + 0.25 }
    case 'truncate':
      return { kind, path, size: pick([0, 1, random(4096), random(300_000)]) }
    case 'write': {
      const offset = pick([0, random(5000), random(300_000)])
      return { kind, path, offset, length: 1 + random(9000), byte: 1 + random(255) }
    }
  }
}

export function changesData({ kind }: Operation): boolean {
  return kind === 'write' || kind === 'truncate'
}

/** The path as it is in the lines of a tree. */
export function pathText(path: Path): string {
  return path.map((name) => `/${name.toString('latin1')}`).join('')
}

function toName(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

// --- On a layer ------------------------------------------------------------------------------

class Failure extends Error {
  readonly code: string

  constructor(code: string) {
    super(code)
    this.code = code
  }
}

/** @returns `done`, the result, or the name of the error */
export function applyToLayer(layer: FileSystem, operation: Operation): string {
  return outcome(() => actOnLayer(layer, operation))
}

/** Resolves a path as the kernel does. */
function find(layer: FileSystem, path: Path): NodeId {
  let node = layer.root
  for (const name of path) {
    const { kind } = layer.attributes(node)
    if (kind !== 'directory') throw new Failure(kind === 'symlink' ? 'ENOENT' : 'ENOTDIR')
    const next = layer.lookup(node, name)
    if (next === undefined) throw new Failure('ENOENT')
    node = next
  }
  return node
}

/** The node must be a file after symlinks are followed. */
function open(layer: FileSystem, path: Path): NodeId {
  const node = find(layer, path)
  if (layer.attributes(node).kind === 'symlink') throw new Failure('ENOENT')
  return node
}

function place(layer: FileSystem, path: Path): [NodeId, Buffer] {
  const directory = find(layer, path.slice(0, -1))
  const { kind } = layer.attributes(directory)
  if (kind !== 'directory') throw new Failure(kind === 'symlink' ? 'ENOENT' : 'ENOTDIR')
  return [directory, path.at(-1) ?? Buffer.alloc(0)]
}

/** @param path as in the lines of a tree */
export function fileAt(layer: FileSystem, path: string): NodeId {
  return find(layer, path.split('/').slice(1).map(toName))
}

function actOnLayer(layer: FileSystem, operation: Operation): string | void {
  const { path } = operation
  const root = { uid: 0, gid: 0 }
  switch (operation.kind) {
    case 'create':
      layer.create(...place(layer, path), { kind: 'file', mode: operation.mode, ...root })
      return
    case 'mkdir':
      layer.create(...place(layer, path), { kind: 'directory', mode: operation.mode, ...root })
      return
    case 'symlink': {
      const symlink = { kind: 'symlink', mode: 0o777, target: Buffer.from(target) } as const
      layer.create(...place(layer, path), { ...symlink, ...root })
      return
    }
    case 'unlink':
      return layer.remove(...place(layer, path))
    case 'rmdir':
      return layer.removeDirectory(...place(layer, path))
    case 'list':
      return [...layer.list(open(layer, path), 0)]
        .map(({ name }) => name.toString('latin1'))
        .toSorted()
        .join()
    case 'rename': {
      const [from, to] = [place(layer, path), place(layer, operation.to)]
      const source = layer.lookup(...from)
      // The kernel checks this before it checks the kinds of the two.
      if (source !== undefined && isAbove(operation.to, path)) throw new Failure('ENOTEMPTY')
      return layer.rename(...from, ...to)
    }
    case 'link':
      return layer.link(find(layer, path), ...place(layer, operation.to))
    case 'chmod':
      return layer.setAttributes(open(layer, path), { mode: operation.mode })
    case 'chown':
      return layer.setAttributes(find(layer, path), { uid: operation.uid, gid: operation.gid })
    case 'backdate': {
      const [accessed, modified] = [operation.accessed, operation.modified].map((seconds) => ({
        seconds: Math.floor(seconds),
        nanoseconds: (seconds % 1) * 1e9,
      }))
      if (!accessed || !modified) return
      return layer.setAttributes(find(layer, path), { accessed, modified })
    }
    case 'truncate':
      return layer.setAttributes(open(layer, path), { size: operation.size })
    case 'write': {
      const { offset, length, byte } = operation
      return layer.write(open(layer, path), offset, Buffer.alloc(length, byte))
    }
  }
}

function isAbove(one: Path, other: Path): boolean {
  return one.length < other.length && one.every((name, at) => other[at]?.equals(name))
}

// --- On a directory --------------------------------------------------------------------------

const slash = Buffer.from('/')

export function applyToDirectory(root: string, operation: Operation): string {
  return outcome(() => actOnDirectory(root, operation))
}

function actOnDirectory(root: string, operation: Operation): string | void {
  const locate = (path: Path) =>
    Buffer.concat([Buffer.from(root), ...path.flatMap((name) => [slash, name])])
  const path = locate(operation.path)
  switch (operation.kind) {
    case 'create':
      return fs.closeSync(fs.openSync(path, 'wx', operation.mode))
    case 'mkdir':
      return fs.mkdirSync(path, operation.mode)
    case 'symlink':
      return fs.symlinkSync(target, path)
    case 'unlink':
      return fs.unlinkSync(path)
    case 'rmdir':
      return fs.rmdirSync(path)
    case 'list':
      return fs.readdirSync(path, { encoding: 'latin1' }).toSorted().join()
    case 'rename':
      return fs.renameSync(path, locate(operation.to))
    case 'link':
      return fs.linkSync(path, locate(operation.to))
    case 'chmod':
      return fs.chmodSync(path, operation.mode)
    case 'chown':
      return fs.lchownSync(path, operation.uid, operation.gid)
    case 'backdate':
      return fs.lutimesSync(path, operation.accessed, operation.modified)
    case 'truncate':
      return fs.truncateSync(path, operation.size)
    case 'write': {
      const { offset, length, byte } = operation
      const file = fs.openSync(path, 'r+')
      try {
        fs.writeSync(file, Buffer.alloc(length, byte), 0, length, offset)
      } finally {
        fs.closeSync(file)
      }
    }
  }
}

function outcome(act: () => string | void): string {
  try {
    return act() ?? 'done'
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === undefined) throw error
    return errno
  }
}

// --- The resulting tree ----------------------------------------------------------------------

/** One of the paths to a node. */
export interface TreeLine {
  /** In Latin-1, so that any bytes are text. */
  path: string
  /** The first of all names of the node. */
  node: string
  kind: string
  mode: number
  owner: string
  links: number
  target: string
  /** Only of files. */
  size: number
  content: string
  /** `now`, or the time that it was backdated to. */
  modified: string
}

/** Every change that does not set a time itself has a later time than this. */
const beginning = 1_500_000_000

export function treeOfLayer(layer: FileSystem): TreeLine[] {
  const lines: TreeLine[] = []
  const firstNames = new Map<NodeId, string>()
  function walk(id: NodeId, path: string): void {
    const node = layer.attributes(id)
    const isFirst = !firstNames.has(id)
    if (isFirst) firstNames.set(id, path)
    lines.push({
      path,
      node: firstNames.get(id) ?? path,
      kind: node.kind,
      mode: node.mode,
      owner: `${node.uid}:${node.gid}`,
      links: node.links,
      target: node.kind === 'symlink' ? layer.readLink(id).toString('latin1') : '',
      size: node.kind === 'file' ? node.size : 0,
      content: node.kind === 'file' && isFirst ? digest(readAll(layer, node)) : '',
      modified: whenModified(node.modified.seconds, node.modified.nanoseconds),
    })
    if (node.kind !== 'directory') return
    const entries = [...layer.list(id, 0)].toSorted((a, b) => a.name.compare(b.name))
    for (const entry of entries) walk(entry.node, `${path}/${entry.name.toString('latin1')}`)
  }
  walk(layer.root, '')
  return lines
}

function readAll(layer: FileSystem, { id, size }: Attributes): Buffer {
  const content = Buffer.alloc(size + 1)
  const count = layer.read(id, 0, content)
  return content.subarray(0, count)
}

export function treeOfDirectory(root: string): TreeLine[] {
  const lines: TreeLine[] = []
  const firstNames = new Map<bigint, string>()
  function walk(file: Buffer, path: string): void {
    const stat = fs.lstatSync(file, { bigint: true })
    const isFirst = !firstNames.has(stat.ino)
    if (isFirst) firstNames.set(stat.ino, path)
    lines.push({
      path,
      node: firstNames.get(stat.ino) ?? path,
      kind: stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'file',
      mode: Number(stat.mode & 0o7777n),
      owner: `${stat.uid}:${stat.gid}`,
      links: Number(stat.nlink),
      target: stat.isSymbolicLink() ? fs.readlinkSync(file, 'latin1') : '',
      size: stat.isFile() ? Number(stat.size) : 0,
      content: stat.isFile() && isFirst ? digest(fs.readFileSync(file)) : '',
      modified: whenModified(
        Number(stat.mtimeNs / 1_000_000_000n),
        Number(stat.mtimeNs % 1_000_000_000n),
      ),
    })
    if (!stat.isDirectory()) return
    const found = fs.readdirSync(file, { encoding: 'buffer' }).toSorted((a, b) => a.compare(b))
    for (const name of found) {
      walk(Buffer.concat([file, slash, name]), `${path}/${name.toString('latin1')}`)
    }
  }
  walk(Buffer.from(root), '')
  return lines
}

function digest(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 16)
}

function whenModified(seconds: number, nanoseconds: number): string {
  return seconds > beginning ? 'now' : `${seconds}.${nanoseconds}`
}

/** A tree for an image: directories, files, hard links, symlinks, all with an old time. */
export function writeImageTree(root: string): void {
  const [a = '', b = '', c = ''] = names.map((name) => name.toString('latin1'))
  fs.mkdirSync(root, { recursive: true })
  fs.mkdirSync(`${root}/${a}/${b}/${c}`, { recursive: true })
  fs.mkdirSync(`${root}/${b}/${a}`, { recursive: true })
  fs.writeFileSync(`${root}/${c}`, 'of the image\n'.repeat(20_000))
  fs.writeFileSync(`${root}/${a}/${a}`, 'two names\n')
  fs.linkSync(`${root}/${a}/${a}`, `${root}/${b}/${b}`)
  fs.symlinkSync(target, `${root}/${b}/${c}`)
  fs.writeFileSync(`${root}/${a}/${b}/${c}/${a}`, 'deep\n', { mode: 0o400 })
  for (const line of treeOfDirectory(root).toReversed()) {
    fs.lutimesSync(Buffer.from(`${root}${line.path}`, 'latin1'), 1, 1)
  }
}
