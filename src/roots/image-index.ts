/**
 * The index of an image's root tree: the tree is walked once, and its nodes are kept in memory. All
 * layers over the image use this index. An image never changes, so each walk gives the nodes the
 * same numbers.
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
  /** The directory that has the node; if the node has several names, that of the first. */
  parent: NodeId
}

export interface ImageChild {
  name: Buffer
  node: NodeId
}

export interface ImageIndex {
  /** A hash of the image's manifest. */
  identity: string
  /** A hash that is the same as long as the nodes have the same numbers. */
  structure: string
  rootNode: NodeId
  /** @returns undefined if the image has no such node */
  node(id: NodeId): ImageNode | undefined
  /**
   * Names are in the order of their bytes.
   *
   * @returns undefined if the directory has fewer names
   */
  childAt(directory: NodeId, place: number): ImageChild | undefined
  child(directory: NodeId, name: Buffer): NodeId | undefined
  /**
   * Opens the file for reading. The caller closes it.
   *
   * @throws `NetimageError` `image-damaged` if the file has been changed or replaced since the walk
   */
  open(node: ImageNode): number
  /** @throws `NetimageError` `image-damaged`, as for `open` */
  readLink(node: ImageNode): Buffer
  close(): void
}

const rootNode = 1
/** Errors of opening if the file is gone, or something else has its name. */
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
  // Held open: if another tree gets the name, only the files of this tree are still found.
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

  /** The path below the root tree, with a slash before each name. */
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
    return new NetimageError('image-damaged', `${file} has changed while it was served: ${why}`, {
      ...(cause !== undefined && { cause }),
      details: { file },
      hint: 'Put the image back as it was built. Or restart the server and boot the machines again.',
    })
  }

  /** Turns errors that mean that the file is gone or replaced into `image-damaged`. */
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
