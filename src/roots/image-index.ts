/**
 * What an image's root tree holds, walked once and kept in memory: the lower side of all layers over
 * it. An image never changes, so the nodes have the same numbers after each walk.
 */
import { hash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

import { fileSystemError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import type { Device, NodeId, NodeKind, Time } from '../protocols/nfs/file-system.ts'
import { column, kinds, noEntry, placeOf, structureOf, walkTree } from './image-table.ts'

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
  /** By which it is reached on this machine; of several the first. */
  parent: NodeId
}

export interface ImageChild {
  name: Buffer
  node: NodeId
}

export interface ImageIndex {
  /** Names the image: the same as long as its manifest is. */
  identity: string
  /** The same as long as the nodes have the same numbers. */
  structure: string
  rootNode: NodeId
  /** undefined where the image has no such node */
  node(id: NodeId): ImageNode | undefined
  /** In the order of the bytes of their names; undefined from the end on. */
  childAt(directory: NodeId, place: number): ImageChild | undefined
  child(directory: NodeId, name: Buffer): NodeId | undefined
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
  const table = walkTree(root)
  const { rows, entries } = table
  const { names } = entries
  const startOf = (entry: number) => (entry === 0 ? 0 : (entries.end[entry - 1] ?? 0))
  const endOf = (entry: number) => entries.end[entry] ?? 0

  function path(node: ImageNode): Buffer {
    const parts: Buffer[] = []
    for (let at = node.id; ; at = rows[placeOf(at) + column.parent] ?? rootNode) {
      const entry = rows[placeOf(at) + column.entry] ?? noEntry
      if (entry === noEntry) return Buffer.concat([Buffer.from(root), ...parts])
      parts.unshift(slash, names.subarray(startOf(entry), endOf(entry)))
    }
  }

  return {
    identity,
    structure: structureOf(table),
    rootNode,
    node(id) {
      const place = placeOf(id)
      const kind = kinds[rows[place + column.kind] ?? -1]
      if (kind === undefined) return undefined
      const number = (at: number) => rows[place + at] ?? 0
      return {
        id,
        kind,
        mode: number(column.mode),
        uid: number(column.uid),
        gid: number(column.gid),
        links: number(column.links),
        size: number(column.size),
        used: number(column.used),
        device: { major: number(column.major), minor: number(column.minor) },
        modified: { seconds: number(column.seconds), nanoseconds: number(column.nanoseconds) },
        parent: number(column.parent),
      }
    },
    childAt(directory, place) {
      const row = placeOf(directory)
      if (!(place < (rows[row + column.childCount] ?? 0))) return undefined
      const entry = (rows[row + column.firstChild] ?? 0) + place
      const name = Buffer.from(names.subarray(startOf(entry), endOf(entry)))
      return { name, node: entries.node[entry] ?? 0 }
    },
    child(directory, name) {
      const row = placeOf(directory)
      let from = rows[row + column.firstChild] ?? 0
      for (let to = from + (rows[row + column.childCount] ?? 0); from < to;) {
        const middle = (from + to) >>> 1
        const order = names.compare(name, 0, name.length, startOf(middle), endOf(middle))
        if (order === 0) return entries.node[middle]
        if (order < 0) from = middle + 1
        else to = middle
      }
      return undefined
    },
    path,
    readLink: (node) => readlinkSync(path(node), { encoding: 'buffer' }),
  }
}

export const noDevice: Device = { major: 0, minor: 0 }
