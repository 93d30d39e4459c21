// Indexes of images that are on the disk as one root tree.

import { storeDir } from '../../../src/nix/store-path.ts'
import {
  createImageIndexes,
  type ImageIndex,
  type IndexSettings,
} from '../../../src/roots/image-index.ts'
import { readRootImage, type ImageStorePath } from '../../../src/roots/root-image.ts'

export interface IndexOptions extends IndexSettings {
  storePaths?: readonly ImageStorePath[]
}

/** @param root has the store paths in its `nix/store` */
export function createIndex(id: string, root: string, options: IndexOptions = {}): ImageIndex {
  const { storePaths = [], ...settings } = options
  const placed = storePaths.map((path) => ({ ...path, at: `${root}${storeDir}/${path.name}` }))
  return createImageIndexes(settings).open({ id, outside: root, storePaths: placed })
}

/** @param image the directory of an image that `build` made @param root its root tree */
export function readImageIndex(image: string, root: string): ImageIndex {
  return createImageIndexes().open(readRootImage(image, root))
}
