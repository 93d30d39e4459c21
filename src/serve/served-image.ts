/** An image as it is served: what its manifest says, and its root tree, read once. */
import { resolve } from 'node:path'

import { findLoaders, type Loaders } from '../boot/loaders.ts'
import { NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import { readImage } from '../image/manifest.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { bootParts, type BootPart } from '../boots/boot-parts.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { readImageIndex, type ImageIndex } from '../roots/image-index.ts'

export interface ServedImage {
  /** The absolute path. */
  directory: string
  name: string
  toplevel: string
  /** As Nix names it: `aarch64-linux`. */
  platform: string
  bootTree: string
  /** What machines mount: absolute, without a slash at its end. */
  rootPath: string
  loaders: Loaders
  partOf: (file: string) => BootPart | undefined
  index: ImageIndex
  /** The init of each entry. */
  inits: ReadonlySet<NodeId>
}

/**
 * @param http where its boot tree is served over HTTP, with a slash at its end
 * @throws `NetimageError` `not-an-image`, `image-damaged`, `bad-option`
 */
export async function openServedImage(image: string, http: string): Promise<ServedImage> {
  const directory = resolve(image)
  const { manifest, options } = await readImage(directory)
  if (manifest.root.format === 'tar') {
    throw new NetimageError('bad-option', `the root tree of ${image} is an archive`, {
      hint: 'Build the image as a directory: --format directory.',
    })
  }
  const layout = imageLayout(directory, options.rootDirectoryName)
  const files = new Set(manifest.boot.files.map((file) => file.path))
  const index = readImageIndex(directory, layout.root)
  const inits = manifest.system.entries.map(({ init }) => findNode(index, init))
  return {
    directory,
    name: options.rootDirectoryName,
    toplevel: manifest.system.toplevel,
    platform: manifest.system.platform,
    bootTree: layout.boot,
    rootPath: parseNfsRoot(options.nfsRoot).path.replace(/\/+$/, '') || '/',
    loaders: findLoaders(files, http),
    partOf: bootParts(manifest),
    index,
    inits: new Set(inits.filter((node) => node !== undefined)),
  }
}

function findNode(index: ImageIndex, path: string): NodeId | undefined {
  let node: NodeId | undefined = index.rootNode
  for (const name of path.split('/').filter(Boolean)) {
    node = node === undefined ? undefined : index.child(node, Buffer.from(name))
  }
  return node
}
