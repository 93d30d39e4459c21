/**
 * What an image's root tree holds, walked once and kept in memory: the lower side of all layers over
 * it. An image never changes, so the nodes have the same numbers after each walk.
 */
import { hash } from 'node:crypto'
import { closeSync, fstatSync, lstatSync, openSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, fileSystemError, messageOf, NetimageError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import { liesBelow, openRegularFile, pathOfDescriptor } from '../open-safely.ts'
import type { Device, NodeId, NodeKind, Time } from '../protocols/nfs/file-system.ts'
import {
  column,
  isSameFile,
  kinds,
  noEntry,
  placeOf,
  structureOf,
  walkTree,
  type ImageTable,
} from './image-table.ts'

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
  /**
   * Opens the file to be read. Whoever calls this closes it.
   *
   * @throws `NetimageError` `image-damaged` if the file is not the one any more that was walked
   */
  open(node: ImageNode): number
  /** @throws `NetimageError` `image-damaged`, as for `open` */
  readLink(node: ImageNode): Buffer
  close(): void
}

const rootNode = 1
/** What opening says if something else stands where the file was. */
const otherFile = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EISDIR', 'EINVAL'])
const slash = Buffer.from('/')

/**
 * @param image the directory of the image
 * @param root its root tree
 * @param shown the root tree's name in errors, if `root` is another path to it
 */
export function readImageIndex(image: string, root: string, shown = root): ImageIndex {
  try {
    const manifest = readFileSync(join(image, manifestName))
    return createIndex(hash('sha256', manifest), root, shown)
  } catch (error) {
    throw fileSystemError(`could not read the root tree ${shown}`, error)
  }
}

/**
 * @param shown the root tree's name in errors, if `root` is another path to it
 */
export function createIndex(identity: string, root: string, shown = root): ImageIndex {
  // Held open: if another tree gets the name, files of this one are still found, and no others.
  const top = openSync(root, 'r')
  // The dot makes lstat(2) look at the directory, not at the descriptor's link.
  const held = `${pathOfDescriptor(top) ?? root}/.`
  let table: ImageTable
  try {
    table = walkTree(held)
  } catch (error) {
    closeSync(top)
    throw error
  }
  const { rows, entries } = table
  const { names } = entries
  const startOf = (entry: number) => (entry === 0 ? 0 : (entries.end[entry - 1] ?? 0))
  const endOf = (entry: number) => entries.end[entry] ?? 0

  /** Below the root tree, with a slash before each name. */
  function pathBelow(node: ImageNode): Buffer {
    const parts: Buffer[] = []
    for (let at = node.id; ; at = rows[placeOf(at) + column.parent] ?? rootNode) {
      const entry = rows[placeOf(at) + column.entry] ?? noEntry
      if (entry === noEntry) return Buffer.concat(parts)
      parts.unshift(slash, names.subarray(startOf(entry), endOf(entry)))
    }
  }

  const pathOf = (node: ImageNode) => Buffer.concat([Buffer.from(held), pathBelow(node)])

  function changed(node: ImageNode, why: string, cause?: unknown): NetimageError {
    const file = `${shown}${pathBelow(node).toString()}`
    return new NetimageError('image-damaged', `${file} has changed since it is served: ${why}`, {
      ...(cause !== undefined && { cause }),
      hint: 'Put the image back as it was built, or start the server anew: then the machines boot again.',
    })
  }

  /** @throws what `action` throws, if that says nothing of the file */
  function ifThere<T>(node: ImageNode, action: (path: Buffer) => T): T {
    try {
      return action(pathOf(node))
    } catch (error) {
      const errno = errnoOf(error)
      if (errno !== undefined && !otherFile.has(errno)) throw error
      throw changed(node, messageOf(error), error)
    }
  }

  function open(node: ImageNode): number {
    const file = ifThere(node, (path) => openRegularFile(path))
    const isWalked = isSameFile(rows, node.id, fstatSync(file, { bigint: true }))
    if (isWalked && liesBelow(file, top)) return file
    closeSync(file)
    throw changed(node, 'it is another file')
  }

  function readLink(node: ImageNode): Buffer {
    const target = ifThere(node, (path) =>
      isSameFile(rows, node.id, lstatSync(path, { bigint: true }))
        ? readlinkSync(path, { encoding: 'buffer' })
        : undefined,
    )
    if (target) return target
    throw changed(node, 'it is another link')
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
    open,
    readLink,
    close: () => closeSync(top),
  }
}

export const noDevice: Device = { major: 0, minor: 0 }
