/** An image that is served: its manifest and its root tree are read once. */
import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { findLoaders, type Loaders } from '../boot/loaders.ts'
import { processorOfProgram } from '../boot/pe.ts'
import { messageOf, NetimageError } from '../errors.ts'
import { holdImage } from '../image/image-lock.ts'
import { imageLayout, manifestName } from '../image/layout.ts'
import { readImage } from '../image/manifest.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { bootParts, type BootPart } from '../boots/boot-parts.ts'
import { readImageIndex, type ImageIndex } from '../roots/image-index.ts'

export interface ServedImage {
  /** The absolute path. */
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
  /** Allows the image to be replaced. */
  release(): void
}

/**
 * @param http the URL of its boot tree, with a slash at its end
 * @throws `NetimageError` `not-an-image`, `image-damaged`, `bad-option`, `in-use`
 */
export async function openServedImage(image: string, http: string): Promise<ServedImage> {
  const directory = resolve(image)
  const held = await holdImage(directory)
  try {
    const mustBeUnchanged = watchManifest(held.path, directory)
    const { manifest, options } = await readImage(held.path, directory)
    if (manifest.root.format === 'tar') {
      throw new NetimageError('bad-option', `the root tree of ${image} is an archive`, {
        hint: 'Build the image with --format directory.',
      })
    }
    const nfsRoot = parseNfsRoot(options.nfsRoot)
    const { version } = nfsRoot
    if (version !== undefined && !version.startsWith('3')) {
      throw new NetimageError(
        'bad-option',
        `machines would mount the root of ${image} with NFS version ${version}, but \`netimage serve\` has only version 3`,
        {
          hint: 'Build the image with version 3 in its nfsRoot, as in 10.0.0.5:/srv/nixos,v3. Or serve its root with another NFS server: see docs/servers.md.',
        },
      )
    }
    const layout = imageLayout(held.path, options.rootDirectoryName)
    const files = new Set(manifest.boot.files.map((file) => file.path))
    const { root } = imageLayout(directory, options.rootDirectoryName)
    const index = readImageIndex(held.path, layout.root, root)
    mustBeUnchanged()
    return {
      directory,
      name: options.rootDirectoryName,
      toplevel: manifest.system.toplevel,
      platform: manifest.system.platform,
      bootTree: layout.boot,
      rootPath: nfsRoot.path.replace(/\/+$/, '') || '/',
      loaders: findLoaders(files, (file) => processorOfProgram(join(layout.boot, file)), http),
      partOf: bootParts(manifest),
      index,
      inits: manifest.system.entries.map(({ init }) => init),
      mustBeUnchanged,
      release() {
        index.close()
        held.release()
      },
    }
  } catch (error) {
    held.release()
    throw error
  }
}

/** @returns a function that throws if the manifest has changed since this call */
function watchManifest(path: string, directory: string): () => void {
  const look = () => {
    const { ino, size, mtimeNs } = statSync(join(path, manifestName), { bigint: true })
    return [ino, size, mtimeNs].join()
  }
  const changed = (why: string, cause?: unknown) =>
    new NetimageError(
      'image-damaged',
      `the image ${directory} has changed while it was served: ${why}`,
      {
        ...(cause !== undefined && { cause }),
        hint: 'Put the image back as it was built. Or restart the server and boot the machines again.',
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
