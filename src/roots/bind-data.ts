/** Files with data that a binding makes for nodes that had the data of an image. */
import { closeSync, existsSync, fsyncSync, linkSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import type { NodeId } from '../protocols/nfs/file-system.ts'
import { cloneFile, copyFile, copyFileAt } from './copy-file.ts'
import type { LayerImage } from './layer-image.ts'

export interface DataCopies {
  /**
   * Gives the node `to` the bytes that the file has in the image. A clone takes no room.
   *
   * @returns false if the image does not have the file
   */
  ofImage(image: LayerImage | undefined, file: NodeId, to: NodeId): boolean
  /** Gives the node `to` the own data of another node, which is left to be removed. @returns as `ofImage` */
  ofNode(node: NodeId, to: NodeId): boolean
  /** Waits until all copies are on the disk. */
  sync(): void
}

/** @param folder of the data of the layer */
export function createDataCopies(folder: string): DataCopies {
  let hasNewNames = false

  /** The path of the data. A binding that was killed may have left a file there. */
  function fresh(node: NodeId): string {
    hasNewNames = true
    const path = fileOf(node)
    rmSync(path, { force: true })
    return path
  }

  const fileOf = (node: NodeId) => join(folder, node.toString(16))

  return {
    ofImage(image, file, to) {
      const node = image?.node(file)
      if (!image || node?.kind !== 'file') return false
      const source = image.open(node)
      try {
        const path = fresh(to)
        if (!cloneFile(source, path)) copyFile(source, path)
      } finally {
        closeSync(source)
      }
      return true
    },
    ofNode(node, to) {
      // After a loss of power, a file may be missing: see `matchData` in layer.ts.
      if (!existsSync(fileOf(node))) return false
      const path = fresh(to)
      try {
        linkSync(fileOf(node), path)
      } catch {
        copyFileAt(fileOf(node), path)
      }
      return true
    },
    sync() {
      if (!hasNewNames) return
      const names = openSync(folder, 'r')
      try {
        fsyncSync(names)
      } finally {
        closeSync(names)
      }
    },
  }
}
