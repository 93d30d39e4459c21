/** Files with data that a binding makes for nodes that had the data of an image. */
import {
  closeSync,
  existsSync,
  lstatSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import pLimit from 'p-limit'

import { openRegularFile } from '../open-safely.ts'
import type { NodeId, Space } from '../protocols/nfs/file-system.ts'
import { copyFile, linkOrCopy } from './copy-file.ts'
import { dataName } from './data-files.ts'
import type { ImageNode, LayerImage } from './layer-image.ts'
import { preparedCopy, type NeededCopy } from './prepare-copies.ts'
import { waitFor, type Steps } from './steps.ts'
import { syncFile, syncFileSoon } from '../sync-file.ts'
import { syncDirectory, syncDirectorySoon } from '../sync-directory.ts'

/** The room on the disk with and without the limit of the layer. */
export type Spaces = Record<'limit' | 'disk', Space>

export interface DataCopies {
  /**
   * Gives the node `to` the bytes that the file has in the image. A clone takes no room.
   *
   * @returns false if the image does not have the file
   */
  ofImage(image: LayerImage | undefined, file: NodeId, to: NodeId): boolean
  /**
   * As `ofImage`, for a file of a store path. Only a few small files are copied at once. All others
   * must be prepared, and are in `missing` if they are not.
   *
   * @param most whether the copy counts against the limit of the layer
   * @returns `gone` if the image does not have the file
   */
  ofStorePath(
    image: LayerImage | undefined,
    file: NodeId,
    to: NodeId,
    most: 'limit' | 'disk',
  ): Steps<'made' | 'gone' | 'no-room'>
  /** If there are any, the binding must be given up, and begins anew when they are prepared. */
  missing(): readonly NeededCopy[]
  /** Gives the node `to` the own data of another node, which is left to be removed. @returns as `ofImage` */
  ofNode(node: NodeId, to: NodeId): boolean
  /** Gives the node `to` these bytes. */
  ofBytes(bytes: Buffer, to: NodeId): void
  /** Whether the own data of a node are these bytes. */
  hasBytes(node: NodeId, bytes: Buffer): boolean
  /** Whether the own data of a node has no bytes. After a loss of power, the data may be missing. */
  isEmpty(node: NodeId): boolean
  /** Gives the prepared copies their names, and waits until all copies are on the disk. */
  finish(): Steps
}

/** The most that is copied while all machines wait. Each file is synced, which takes a while as well. */
const atOnce = { bytes: 2 ** 20, files: 16 }

/** Each has a descriptor. */
const syncedAtOnce = 16

/**
 * @param folder of the data of the layer
 * @param spaces called if a file of a store path is to be copied
 */
export function createDataCopies(folder: string, spaces: () => Steps<Spaces>): DataCopies {
  let hasNewNames = false
  /** Files whose data may not be on the disk yet. */
  const unsynced: string[] = []
  const missing: NeededCopy[] = []
  const prepareds: { prepared: string; to: NodeId }[] = []
  /** What is left of `atOnce`. */
  const left = { ...atOnce }
  /** What all copies of this binding take, so that they have room together. */
  const planned = { bytes: 0, files: 0 }
  let known: Spaces | undefined

  /** The path of the data. A binding that was killed may have left a file there. */
  function fresh(node: NodeId): string {
    hasNewNames = true
    const path = fileOf(node)
    rmSync(path, { force: true })
    return path
  }

  const fileOf = (node: NodeId) => join(folder, dataName(node))

  function copy(image: LayerImage, node: ImageNode, to: NodeId): void {
    const source = image.open(node)
    try {
      const path = fresh(to)
      copyFile(source, path, Infinity, 'later')
      unsynced.push(path)
    } finally {
      closeSync(source)
    }
  }

  /** Some file systems do not tell how many bytes (FUSE) or files (Btrfs) they can hold. */
  function hasRoom(bytes: number, { total, available, files, freeFiles }: Space): boolean {
    const isFull = total > 0 && planned.bytes + bytes > available
    return !isFull && (files === 0 || planned.files < freeFiles)
  }

  return {
    ofImage(image, file, to) {
      const node = image?.node(file)
      if (!image || node?.kind !== 'file') return false
      copy(image, node, to)
      return true
    },
    *ofStorePath(image, file, to, most) {
      const node = image?.node(file)
      if (!image || node?.kind !== 'file') return 'gone'
      const prepared = preparedCopy(folder, file)
      if (existsSync(prepared)) {
        // Not now: if others are missing, this binding is given up.
        prepareds.push({ prepared, to })
        return 'made'
      }
      const { size } = node
      known ??= yield* spaces()
      yield* image.prepare(file)
      if (!hasRoom(size, known[most])) return 'no-room'
      planned.bytes += size
      planned.files++
      if (left.files > 0 && size <= left.bytes) {
        left.files--
        left.bytes -= size
        copy(image, node, to)
      } else {
        const prepare = () => image.prepare(file)
        missing.push({ node: file, bytes: size, prepare, open: () => image.open(node) })
      }
      return 'made'
    },
    missing: () => missing,
    ofNode(node, to) {
      // After a loss of power, a file may be missing: see `matchData` in layer.ts.
      if (!existsSync(fileOf(node))) return false
      const path = fresh(to)
      linkOrCopy(fileOf(node), path)
      return true
    },
    ofBytes(bytes, to) {
      const path = fresh(to)
      writeFileSync(path, bytes, { flag: 'wx', mode: 0o600 })
      unsynced.push(path)
    },
    hasBytes(node, bytes) {
      // After a loss of power, a file may be missing.
      if (lstatSync(fileOf(node), { throwIfNoEntry: false })?.size !== bytes.length) return false
      const file = openRegularFile(fileOf(node))
      try {
        return readFileSync(file).equals(bytes)
      } finally {
        closeSync(file)
      }
    },
    isEmpty: (node) => !lstatSync(fileOf(node), { throwIfNoEntry: false })?.size,
    *finish() {
      for (const { prepared, to } of prepareds) renameSync(prepared, fresh(to))
      if (!hasNewNames) return
      yield* waitFor(
        () => {
          for (const path of unsynced) syncFile(path)
          syncDirectory(folder)
        },
        async () => {
          const sync = pLimit(syncedAtOnce)
          await Promise.all(unsynced.map((path) => sync(syncFileSoon, path)))
          await syncDirectorySoon(folder)
        },
      )
    },
  }
}
