/**
 * What an image's root tree holds, walked once and kept in memory: the lower side of all layers over
 * it. An image never changes, so the nodes have the same numbers after each walk.
 */
import { hash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync, type BigIntStats } from 'node:fs'
import { join } from 'node:path'

import { fileSystemError } from '../../errors.ts'
import { manifestName } from '../../image/layout.ts'
import type { Device, NodeId, NodeKind, Time } from './file-system.ts'

export interface ImageNode {
  id: NodeId
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
  /** By which it is reached on this machine; of several names the first. */
  parent: NodeId
  name: Buffer
  /** Of directories, in the order of their bytes. */
  children: readonly ImageChild[] | undefined
}

export interface ImageChild {
  name: Buffer
  node: NodeId
}

export interface ImageIndex {
  /** Names the image: the same as long as its manifest is. */
  identity: string
  rootNode: NodeId
  /** undefined where the image has no such node */
  node(id: NodeId): ImageNode | undefined
  child(directory: ImageNode, name: Buffer): NodeId | undefined
  /** Where the node lies on this machine. */
  path(node: ImageNode): Buffer
  readLink(node: ImageNode): Buffer
}

const rootNode = 1
const slash = Buffer.from('/')

/**
 * @param image the directory of the image
 * @param root its root tree
 */
export function readImageIndex(image: string, root: string): ImageIndex {
  try {
    const manifest = readFileSync(join(image, manifestName))
    return createIndex(hash('sha256', manifest), root)
  } catch (error) {
    throw fileSystemError(`could not read the root tree ${root}`, error)
  }
}

export function createIndex(identity: string, root: string): ImageIndex {
  const nodes: ImageNode[] = []
  const byInode = new Map<bigint, ImageNode>()
  const top = lstatSync(root, { bigint: true })

  function add(path: Buffer, parent: NodeId, name: Buffer): NodeId {
    const stat = lstatSync(path, { bigint: true })
    const kind = kindOf(stat)
    const known = kind === 'directory' ? undefined : byInode.get(stat.ino)
    if (known) {
      known.links++
      return known.id
    }
    const node = describe(stat, kind, top)
    node.id = nodes.length + 1
    node.parent = parent || node.id
    node.name = name
    nodes.push(node)
    // Only what has other names on this machine can have one in the tree.
    if (kind !== 'directory' && stat.nlink > 1n) byInode.set(stat.ino, node)
    if (kind === 'directory') {
      const names = readdirSync(path, { encoding: 'buffer' }).sort((a, b) => a.compare(b))
      const children = names.map((child) => ({
        name: child,
        node: add(Buffer.concat([path, slash, child]), node.id, child),
      }))
      node.children = children
      const isDirectory = (id: NodeId) => nodes[id - 1]?.kind === 'directory'
      node.links = 2 + children.filter((child) => isDirectory(child.node)).length
    }
    return node.id
  }
  add(Buffer.from(root), 0, Buffer.alloc(0))

  const rootPath = Buffer.from(root)
  function path(node: ImageNode): Buffer {
    const parts: Buffer[] = []
    for (let at = node; at.id !== rootNode;) {
      parts.unshift(slash, at.name)
      const parent = nodes[at.parent - 1]
      if (!parent) break
      at = parent
    }
    return Buffer.concat([rootPath, ...parts])
  }

  return {
    identity,
    rootNode,
    node: (id) => nodes[id - 1],
    child(directory, name) {
      const { children = [] } = directory
      let from = 0
      for (let to = children.length; from < to;) {
        const middle = (from + to) >>> 1
        const child = children[middle]
        const order = child ? child.name.compare(name) : 0
        if (order === 0) return child?.node
        if (order < 0) from = middle + 1
        else to = middle
      }
      return undefined
    },
    path,
    readLink: (node) => readlinkSync(path(node), { encoding: 'buffer' }),
  }
}

function describe(stat: BigIntStats, kind: NodeKind, top: BigIntStats): ImageNode {
  // An image is made without root: what belongs to whoever made it is root's on the machine.
  const uid = stat.uid === top.uid ? 0 : Number(stat.uid)
  const gid = stat.gid === top.gid ? 0 : Number(stat.gid)
  const isDevice = kind === 'character' || kind === 'block'
  return {
    id: 0,
    kind,
    mode: Number(stat.mode & 0o7777n),
    uid,
    gid,
    links: 1,
    size: Number(stat.size),
    used: Number(stat.blocks * 512n),
    device: isDevice ? deviceOf(stat.rdev) : noDevice,
    modified: {
      seconds: Number(stat.mtimeNs / 1_000_000_000n),
      nanoseconds: Number(stat.mtimeNs % 1_000_000_000n),
    },
    parent: 0,
    name: Buffer.alloc(0),
    children: undefined,
  }
}

export const noDevice: Device = { major: 0, minor: 0 }

/** As glibc's gnu_dev_major(3) and gnu_dev_minor(3). */
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
