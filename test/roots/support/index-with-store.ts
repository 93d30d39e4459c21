// The index of a tree in which everything in the store is a store path of the image.

import { join } from 'node:path'
import { type ImageIndex } from '../../../src/roots/image-index.ts'
import { namesIn } from '../../../src/roots/names-in.ts'
import { createIndex } from './tree-index.ts'

export function indexWithStore(tree: string): ImageIndex {
  const names = namesIn(join(tree, 'nix/store'))
  const storePaths = names.map((name) => ({ name, narHash: `sha256:${name}` }))
  return createIndex('tree', tree, { storePaths })
}
