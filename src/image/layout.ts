/**
 * The paths of the parts of an image. The layout is that of raspberry-pi-nix, and a manifest.
 */
import { readdirSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'

import { registrationName } from '../nix/registration.ts'

export interface ImageLayout {
  image: string
  /** Names the platform of the machine that built the image, as in raspberry-pi-nix. */
  buildSystem: string
  manifest: string
  lock: string
  /** The root tree, which a machine mounts at `/`. */
  root: string
  /** The root tree as a tar archive. An image has either `root` or `rootTar`. */
  rootTar: string
  /** The boot tree, which has the files that a machine's loader fetches. */
  boot: string
  store: string
  registration: string
}

/** An empty file, see image-lock.ts. */
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

/** Finds files that are not part of an image. @returns paths relative to the image */
export function findOtherFiles(layout: ImageLayout, format: 'directory' | 'tar'): string[] {
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
