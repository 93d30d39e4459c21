/**
 * Where the parts of an image lie: the layout that the Nix module gave it, and its manifest.
 */
import { readdirSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'

import { registrationName } from '../nix/registration.ts'

export interface ImageLayout {
  image: string
  /** The building machine's system, as in the module. */
  buildSystem: string
  manifest: string
  lock: string
  /** The root tree: what a machine mounts at `/`. */
  root: string
  /** The root tree as a tar archive, where it was asked for in its place. */
  rootTar: string
  /** The boot tree: what a machine's loader fetches. */
  boot: string
  store: string
  registration: string
}

/** Empty: see image-lock.ts. */
export const lockName = 'nix-support/lock'
export const manifestName = 'nix-support/net-image.json'

export function imageLayout(image: string, rootDirectoryName: string): ImageLayout {
  const root = join(image, 'net-image', rootDirectoryName)
  return {
    image,
    buildSystem: join(image, 'nix-support/system'),
    manifest: join(image, manifestName),
    lock: join(image, lockName),
    root,
    rootTar: `${root}.tar`,
    boot: join(image, 'net-image/boot'),
    store: join(root, 'nix/store'),
    registration: join(root, registrationName),
  }
}

/** What lies in the image beside its trees and what describes them, relative to it. */
export function findStrays(layout: ImageLayout, format: 'directory' | 'tar'): string[] {
  const { image, boot, buildSystem, manifest, lock } = layout
  const root = format === 'tar' ? layout.rootTar : layout.root
  const parts = [dirname(boot), dirname(manifest), root, boot, buildSystem, manifest, lock]
  const expected = new Set(parts.map((path) => relative(image, path)))
  return ['', basename(dirname(boot)), basename(dirname(manifest))]
    .flatMap((directory) =>
      readdirSync(join(image, directory)).map((name) => join(directory, name)),
    )
    .filter((path) => !expected.has(path))
}
