/**
 * The data of files: what the image has, read from there, and what the layer has, in a file of its
 * own for each node: `data/<node in hex>`.
 */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fdatasync,
  fstatSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { makeDirectory } from '../../make-directory.ts'
import type { NodeId } from './file-system.ts'
import type { ImageIndex, ImageNode } from './image-index.ts'
import { createOpenFiles } from './open-files.ts'

export interface DataFiles {
  size(node: NodeId): { size: number; used: number }
  read(node: NodeId, offset: number, into: Uint8Array): number
  readImage(node: ImageNode, offset: number, into: Uint8Array): number
  write(node: NodeId, offset: number, data: Uint8Array): void
  truncate(node: NodeId, size: number): void
  /** Makes the node's own file: empty, or with what the image has. */
  create(node: NodeId, from?: ImageNode): void
  remove(node: NodeId): void
  /** Resolves once the data of the node is on the disk. */
  sync(node: NodeId): Promise<void>
  /** Resolves once all files that were made are found by their names after a loss of power. */
  syncNames(): Promise<void>
  /** The nodes that have a file here. */
  list(): NodeId[]
  close(): void
}

const maxOpen = 128
const fdatasyncAsync = promisify(fdatasync)
const fsyncAsync = promisify(fsync)

export function openDataFiles(directory: string, index: ImageIndex): DataFiles {
  const folder = join(directory, 'data')
  makeDirectory(folder)
  const own = createOpenFiles(maxOpen)
  const ofImage = createOpenFiles(maxOpen)
  const names = openSync(folder, 'r')
  let hasNewNames = false

  const fileOf = (node: NodeId) => join(folder, node.toString(16))
  const descriptor = (node: NodeId) => own.get(String(node), () => openSync(fileOf(node), 'r+'))

  return {
    size(node) {
      const { size, blocks } = fstatSync(descriptor(node))
      return { size, used: blocks * 512 }
    },
    read: (node, offset, into) => readSync(descriptor(node), into, 0, into.length, offset),
    readImage(node, offset, into) {
      const file = ofImage.get(String(node.id), () => openSync(index.path(node), 'r'))
      return readSync(file, into, 0, into.length, offset)
    },
    write(node, offset, data) {
      const file = descriptor(node)
      for (let at = 0; at < data.length;) {
        at += writeSync(file, data, at, data.length - at, offset + at)
      }
    },
    truncate: (node, size) => ftruncateSync(descriptor(node), size),
    create(node, from) {
      hasNewNames = true
      const file = fileOf(node)
      if (!from) {
        closeSync(openSync(file, 'w', 0o600))
        return
      }
      // Under another name until it is whole, and on the disk: the image's data were there as well.
      const scratch = `${file}.new`
      copyFileSync(index.path(from), scratch, constants.COPYFILE_FICLONE)
      // The image's files are read-only.
      chmodSync(scratch, 0o600)
      const copy = openSync(scratch, 'r')
      try {
        fsyncSync(copy)
      } finally {
        closeSync(copy)
      }
      renameSync(scratch, file)
    },
    remove(node) {
      own.forget(String(node))
      rmSync(fileOf(node), { force: true })
    },
    async sync(node) {
      // Of its own: one that is shared may be closed meanwhile, and its number be another file's.
      const file = openSync(fileOf(node), 'r')
      try {
        await fdatasyncAsync(file)
      } finally {
        closeSync(file)
      }
    },
    async syncNames() {
      if (!hasNewNames) return
      hasNewNames = false
      await fsyncAsync(names)
    },
    list() {
      const files = readdirSync(folder)
      for (const file of files) {
        if (file.endsWith('.new')) rmSync(join(folder, file))
      }
      return files
        .filter((file) => /^[0-9a-f]+$/.test(file))
        .map((file) => Number.parseInt(file, 16))
    },
    close() {
      own.close()
      ofImage.close()
      closeSync(names)
    },
  }
}
