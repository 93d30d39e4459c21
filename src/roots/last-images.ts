/** Opens the images that a machine had at its last boot, to look at its layer while nothing uses it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { readBound, type Bound } from './bind-record.ts'
import { storePathsHash } from './bound-files.ts'
import type { KeptImage } from './bound-image.ts'
import { databaseFile, openLayerDatabase } from './database.ts'
import { openImages } from './find-image.ts'
import type { ImageIndex } from './image-index.ts'
import type { LayerRecord } from './record.ts'
import { readId } from './root-image.ts'
import type { StoredLayer } from './stored-layer.ts'

/**
 * @param layer whose lock the caller holds
 * @returns the index, which the caller closes
 * @throws `NetimageError` `bad-state`, `not-an-image`, `path-not-found`
 */
export function openLastImages(layer: StoredLayer, record: LayerRecord): ImageIndex {
  const bound = boundIn(join(layer.directory, record.name))
  const image = bound?.image ?? record.image
  const { directory, id } = image
  const actual = readId(directory)
  if (actual !== id) {
    throw new NetimageError(
      'bad-state',
      `the image in ${directory} is not the one that the layer of ${layer.machine} was made over`,
      {
        details: { file: directory, expected: id, actual },
        hint: 'Put that image back, or remove the layer: netimage layers remove.',
      },
    )
  }
  const index = openImages(image, bound?.keptImages ?? [])
  if (!bound || storePathsHash(index) === bound.paths) return index
  index.close()
  throw imagesMissing(layer, bound.keptImages)
}

/** Their store paths are below the layer, too. */
function imagesMissing(
  { machine, directory }: StoredLayer,
  keptImages: readonly KeptImage[],
): NetimageError {
  const names = keptImages.map(({ directory }) => directory).join(', ')
  return new NetimageError(
    'bad-state',
    `an image is missing whose store paths ${machine} has seen at its last boot: one of ${names}`,
    {
      details: { file: directory },
      hint: 'Boot the machine, so that its layer is bound to the images that it keeps now. Then try again.',
    },
  )
}

/**
 * The record names these images, too, but only after the layer was bound to it.
 *
 * @returns undefined if the contents do not tell
 */
function boundIn(contents: string): Bound | undefined {
  if (!existsSync(databaseFile(contents))) return undefined
  try {
    const database = openLayerDatabase(contents)
    try {
      return readBound(database)
    } finally {
      database.close()
    }
  } catch {
    // Older contents, or damaged ones: the caller sees the damage when it opens them.
    return undefined
  }
}
