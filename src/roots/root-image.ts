/** An image as the roots of machines need it: where its files are on the disk. */
import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { fileSystemError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import { parseManifest } from '../image/manifest.ts'
import { siteOfImage, storedAt } from '../image/site-places.ts'
import { formatHash } from '../nix/hash.ts'
import { baseNameOf } from '../nix/store-path.ts'
import type { TreeFile } from '../tree-files.ts'

export interface ImageStorePath {
  /** `<hash part>-<name>` */
  name: string
  /** `sha256:…` */
  narHash: string
}

export interface PlacedStorePath extends ImageStorePath {
  /** The absolute path on the disk. */
  at: string
}

export interface RootImage {
  /** The hash of the image's manifest: SHA-256 in base16. */
  id: string
  /**
   * The directory with all files outside the image's store paths. The store paths may be in it, too,
   * in `nix/store`.
   */
  outside: string
  storePaths: readonly PlacedStorePath[]
  /**
   * Hashes of the files outside the store paths, by their paths below `outside` as `escapeBytes`
   * writes them. Without them, a file counts as the same if its size and time are.
   */
  digests?: ReadonlyMap<string, string>
}

/**
 * An image that `build` made, or an image of a site.
 *
 * @param image the directory of the image
 * @param root its root tree
 * @throws `NetimageError` if the manifest cannot be read
 */
export function readRootImage(image: string, root: string): RootImage {
  try {
    const file = join(image, manifestName)
    const bytes = readFileSync(file)
    const { manifest, closure } = parseManifest(bytes.toString(), file)
    const id = hash('sha256', bytes)
    const site = siteOfImage(image, id)
    const storePaths = closure.map(({ path, narHash }) => ({
      name: baseNameOf(path),
      narHash: formatHash(narHash),
      at: site ? storedAt(site, narHash) : `${root}${path}`,
    }))
    return { id, outside: root, storePaths, digests: digestsOf(manifest.root.files) }
  } catch (error) {
    throw fileSystemError(`could not read the root tree ${root}`, error)
  }
}

/** @param files of a manifest @returns as `RootImage.digests` */
export function digestsOf(files: readonly TreeFile[]): Map<string, string> {
  return new Map(files.flatMap((file) => (file.type === 'file' ? [[file.path, file.sha256]] : [])))
}

/** The id of the image that `readRootImage` would read. */
export function readId(image: string): string {
  try {
    return hash('sha256', readFileSync(join(image, manifestName)))
  } catch (error) {
    throw fileSystemError(`could not read the manifest of ${image}`, error)
  }
}
