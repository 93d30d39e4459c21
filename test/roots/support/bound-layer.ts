// A layer that is bound to one image after the other. The images are small trees of files.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'
import type { Binding } from '../../../src/roots/bind.ts'
import { readBound } from '../../../src/roots/bind-record.ts'
import type { SiteFiles } from '../../../src/roots/bind-site-files.ts'
import type { BoundImage } from '../../../src/roots/bound-image.ts'
import { openLayerDatabase } from '../../../src/roots/database.ts'
import {
  createImageIndexes,
  type ImageIndex,
  type ImageIndexes,
} from '../../../src/roots/image-index.ts'
import type { Layer } from '../../../src/roots/layer.ts'
import { openLayer } from './open-layer.ts'
import type { RootImage } from '../../../src/roots/root-image.ts'
import { verifyLayer } from '../../../src/roots/verify.ts'

/** A directory, or the text of a file with its mode, or the target of a symbolic link. */
export type TreeNode =
  | { kind: 'directory'; mode: number }
  | { kind: 'file'; mode: number; text: string }
  | { kind: 'symlink'; mode: number; text: string }

/** By paths without a slash at the beginning. */
export type Tree = ReadonlyMap<string, TreeNode>

/** Writes `text` for a file, `-> text` for a link, and nothing for a directory. */
export function treeOf(files: Record<string, string>): Map<string, TreeNode> {
  const tree = new Map<string, TreeNode>()
  for (const [path, text] of Object.entries(files)) {
    const parts = path.split('/')
    for (let end = 1; end < parts.length; end++) {
      tree.set(parts.slice(0, end).join('/'), { kind: 'directory', mode: 0o755 })
    }
    const link = /^-> (.*)$/.exec(text)?.[1]
    if (path.endsWith('/')) continue
    if (link !== undefined) tree.set(path, { kind: 'symlink', mode: 0o777, text: link })
    else tree.set(path, { kind: 'file', mode: 0o644, text })
  }
  return tree
}

/** The file that all these layers lose at their next boot. */
export const bootFile = ['boot', 'note'] as const

export interface BoundLayers {
  directory: string
  /** Makes an image. Store paths are in a directory that all images share. */
  image(id: string, tree: Tree, storePaths?: Record<string, Record<string, string>>): RootImage
  /** The image cannot be found any more when a layer that was bound to it is opened. */
  lose(image: RootImage): void
  indexOf(image: RootImage, kept?: readonly RootImage[]): ImageIndex
  /** Opens the layer; it is bound first. */
  open(
    image: RootImage,
    binding?: string,
    kept?: readonly RootImage[],
    most?: number,
    siteFiles?: () => SiteFiles,
  ): Layer
  /** The same images with a copy of the layer: `<top>/layer`. */
  at(top: string): BoundLayers
  isBoundTo(image: RootImage): boolean
  /** Does the action in the layer, and checks the layer afterwards. */
  within<T>(
    image: RootImage,
    action: (system: FileSystem) => T,
    options?: {
      binding?: string
      kept?: readonly RootImage[]
      most?: number
      siteFiles?: () => SiteFiles
    },
  ): Promise<T>
}

/** @param top a directory that does not exist yet */
export function makeBoundLayers(top: string): BoundLayers {
  return layersAt(top, new Map(), createImageIndexes())
}

function layersAt(top: string, images: Map<string, RootImage>, indexes: ImageIndexes): BoundLayers {
  const directory = join(top, 'layer')
  mkdirSync(directory, { recursive: true })
  const placeOf = (image: RootImage): BoundImage => ({
    ...{ directory: image.outside, name: 'root', toplevel: '/nix/store/x', id: image.id },
  })
  let bindings = 0

  function open(
    image: RootImage,
    id?: string,
    kept: readonly RootImage[] = [],
    most?: number,
    siteFiles?: () => SiteFiles,
  ): Layer {
    const index = indexes.open(image, kept)
    const binding: Binding = {
      boot: id ?? `boot ${bindings++}`,
      image: placeOf(image),
      imageBefore: undefined,
      bootFiles: [bootFile],
      siteFiles,
      keptImages: kept.map(placeOf),
      *indexOf(before, keptImages) {
        const known = images.get(before.id)
        const others = keptImages.map(({ id }) => images.get(id))
        if (!known) return undefined
        return yield* indexes.openInSteps(
          known,
          others.filter((each) => each !== undefined),
        )
      },
    }
    const layer = openLayer(directory, index, { most, binding })
    return { ...layer, close: () => layer.close().finally(() => index.close()) }
  }

  return {
    directory,
    open,
    at: (other) => layersAt(other, images, indexes),
    isBoundTo({ id }) {
      const database = openLayerDatabase(directory)
      const bound = readBound(database)
      database.close()
      return bound?.image.id === id
    },
    lose: ({ id }) => void images.delete(id),
    indexOf: (image, kept = []) => indexes.open(image, kept),
    image(id, tree, storePaths = {}) {
      const root = join(top, 'images', id)
      mkdirSync(join(root, 'nix/store'), { recursive: true })
      for (const [path, node] of [...tree].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const at = join(root, path)
        if (node.kind === 'directory') mkdirSync(at, { recursive: true, mode: node.mode })
        else if (node.kind === 'symlink') symlinkSync(node.text, at)
        else {
          writeFileSync(at, node.text, { mode: node.mode })
          utimesSync(at, 1, 1)
        }
      }
      const placed = Object.entries(storePaths).map(([name, files]) => {
        const text = JSON.stringify(files)
        const at = join(top, 'store', `${name}-${Buffer.from(text).toString('hex').slice(0, 200)}`)
        for (const [path, content] of Object.entries(files)) {
          mkdirSync(dirname(join(at, path)), { recursive: true })
          writeFileSync(join(at, path), content)
        }
        return { name, narHash: `sha256:${text}`, at }
      })
      const digests = new Map(
        [...tree].flatMap(([path, node]) => (node.kind === 'file' ? [[path, node.text]] : [])),
      )
      const image: RootImage = { id, outside: root, storePaths: placed, digests }
      images.set(id, image)
      return image
    },
    async within(image, action, { binding, kept = [], most, siteFiles } = {}) {
      const layer = open(image, binding, kept, most, siteFiles)
      let result
      try {
        result = action(layer.fileSystem)
      } finally {
        await layer.close()
      }
      const index = indexes.open(image, kept)
      try {
        assert.deepEqual(verifyLayer(directory, index).problems, [])
      } finally {
        index.close()
      }
      return result
    },
  }
}

/** What the machine sees outside /nix. */
export function seen(system: FileSystem): Map<string, TreeNode> {
  const tree = new Map<string, TreeNode>()
  const add = (directory: NodeId, above: string) => {
    for (const { name, node } of system.list(directory, 0)) {
      const path = `${above}${name.toString()}`
      if (path === 'nix') continue
      const { kind, mode, size } = system.attributes(node)
      if (kind === 'directory') {
        tree.set(path, { kind, mode })
        add(node, `${path}/`)
      } else if (kind === 'symlink') {
        tree.set(path, { kind, mode, text: system.readLink(node).toString() })
      } else if (kind === 'file') {
        const bytes = Buffer.alloc(size)
        system.read(node, 0, bytes)
        tree.set(path, { kind, mode, text: bytes.toString() })
      }
    }
  }
  add(system.root, '')
  return tree
}
