/** An image of the site that is served: its manifest is read once. */
import { statSync } from 'node:fs'
import { join } from 'node:path'

import { findLoaders, type Loaders } from '../boot/loaders.ts'
import { processorOfProgram } from '../boot/pe.ts'
import { fileSystemError, messageOf, NetimageError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import type { SettledOptions } from '../image/options.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { bootParts, type BootPart } from '../boots/boot-parts.ts'
import { createImageIndexes, type ImageIndex } from '../roots/image-index.ts'
import type { SiteImage } from '../site/images/site-image.ts'

export interface ServedImage {
  /** The absolute path in the site. */
  directory: string
  name: string
  toplevel: string
  /** As Nix names it: `aarch64-linux`. */
  platform: string
  bootTree: string
  /** The path that machines mount: absolute, without a slash at its end. */
  rootPath: string
  loaders: Loaders
  partOf: (file: string) => BootPart | undefined
  index: ImageIndex
  /** The paths of the inits of all boot entries. */
  inits: readonly string[]
  /**
   * Checks that the manifest is unchanged: boot files and roots must be of the same build.
   *
   * @throws `NetimageError` `image-damaged`
   */
  mustBeUnchanged(): void
  /** Allows the image to be removed from the site. */
  release(): void
}

/**
 * @param image is released with the served image, or if this fails
 * @param http the URL of its boot tree, with a slash at its end
 * @throws `NetimageError` `image-damaged`, `bad-option`
 */
export function openServedImage(image: SiteImage, http: string): ServedImage {
  const { directory, manifest, options, bootTree, rootImage } = image
  try {
    const mustBeUnchanged = watchManifest(directory)
    const files = new Set(manifest.boot.files.map((file) => file.path))
    const index = createImageIndexes().open(rootImage)
    return {
      directory,
      name: options.rootDirectoryName,
      toplevel: manifest.system.toplevel,
      platform: manifest.system.platform,
      bootTree,
      rootPath: rootPathOf(options),
      loaders: findLoaders(files, (file) => processorOfProgram(join(bootTree, file)), http),
      partOf: bootParts(manifest),
      index,
      inits: manifest.system.entries.map(({ init }) => init),
      mustBeUnchanged,
      release() {
        index.close()
        image.release()
      },
    }
  } catch (error) {
    image.release()
    throw fileSystemError(`could not serve the image ${directory}`, error)
  }
}

/**
 * Refuses an image whose root machines would mount in another way than this server serves roots.
 *
 * @param image its name in the error
 * @throws `NetimageError` `bad-option`
 */
export function mustBeServable(options: SettledOptions, image: string): void {
  const { version } = parseNfsRoot(options.nfsRoot)
  if (version === undefined || version.startsWith('3')) return
  throw new NetimageError(
    'bad-option',
    `machines would mount the root of ${image} with NFS version ${version}, but \`netimage serve\` has only version 3`,
    {
      hint: 'Build the image with version 3 in its nfsRoot, as in 10.0.0.5:/srv/nixos,v3. Or serve its root with another NFS server: see docs/servers.md.',
    },
  )
}

function rootPathOf({ nfsRoot }: SettledOptions): string {
  return parseNfsRoot(nfsRoot).path.replace(/\/+$/, '') || '/'
}

/** @returns a function that throws if the manifest has changed since this call */
function watchManifest(directory: string): () => void {
  const look = () => {
    const { ino, size, mtimeNs } = statSync(join(directory, manifestName), { bigint: true })
    return [ino, size, mtimeNs].join()
  }
  const changed = (why: string, cause?: unknown) =>
    new NetimageError(
      'image-damaged',
      `the image ${directory} has changed while it was served: ${why}`,
      {
        ...(cause !== undefined && { cause }),
        hint: `Remove the directory ${directory} and restart the server: it adds the image again.`,
      },
    )
  let before: string
  try {
    before = look()
  } catch {
    // The caller reads the manifest next, and reports why it cannot be read.
    return () => undefined
  }
  return () => {
    let now: string
    try {
      now = look()
    } catch (error) {
      throw changed(messageOf(error), error)
    }
    if (now !== before) throw changed('its manifest is not the same')
  }
}
