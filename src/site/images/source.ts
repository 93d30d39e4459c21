/** The image that is added to a site. Its owner may change it at any moment. */
import { createHash } from 'node:crypto'
import { closeSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, messageOf, NetimageError } from '../../errors.ts'
import { holdImage } from '../../image/image-lock.ts'
import { imageLayout, manifestName, type ImageLayout } from '../../image/layout.ts'
import { notAnImage, parseManifest, type ReadImage } from '../../image/manifest.ts'
import { openRegularFile } from '../../open-safely.ts'
import { mustBeServable } from './servable.ts'

export interface SourceImage extends ReadImage {
  /** The absolute path, for people. */
  directory: string
  /** The hash of the manifest, in base16. */
  id: string
  manifestBytes: Buffer
  /** The path that `layout` begins with. */
  heldPath: string
  /** On Linux, these paths stay valid if the image is renamed. */
  layout: ImageLayout
  release(): void
}

/**
 * Keeps builds from replacing the image until `release`.
 *
 * @throws `NetimageError` `not-an-image`, `image-damaged`, `bad-option`, `in-use`
 */
export async function openSourceImage(image: string): Promise<SourceImage> {
  const directory = resolve(image)
  const held = await holdImage(directory)
  try {
    const manifestBytes = readManifest(held.path, directory)
    const read = parseManifest(manifestBytes.toString(), join(directory, manifestName))
    if (read.manifest.root.format === 'tar') {
      throw new NetimageError('bad-option', `the root tree of ${image} is an archive`, {
        hint: 'Build the image with --format directory.',
      })
    }
    mustBeServable(read.options, image)
    return {
      ...read,
      directory,
      id: createHash('sha256').update(manifestBytes).digest('hex'),
      manifestBytes,
      heldPath: held.path,
      layout: imageLayout(held.path, read.options.rootDirectoryName),
      release: () => held.release(),
    }
  } catch (error) {
    held.release()
    throw error
  }
}

function readManifest(path: string, directory: string): Buffer {
  try {
    const file = openRegularFile(join(path, manifestName))
    try {
      return readFileSync(file)
    } finally {
      closeSync(file)
    }
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') throw notAnImage(directory)
    const doing = `could not read the manifest of ${directory}`
    const details = { file: join(directory, manifestName) }
    if (errno !== undefined) throw fileSystemError(doing, error, { details })
    const why = `${doing}: ${messageOf(error)}`
    throw new NetimageError('image-damaged', why, { details, hint: 'Build the image again.' })
  }
}
