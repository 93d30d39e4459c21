/**
 * Lays a layer over its image. A layer knows nodes only by their numbers, so the parts of the image
 * that the layer depends on must be unchanged.
 */
import { NetimageError } from '../errors.ts'
import type { LayerDatabase } from './database.ts'
import { outside, type ImageIndex } from './image-index.ts'
import { createLayerImage, type LayerImage, type UsesPath } from './layer-image.ts'
import { changedPaths } from './layer-changes.ts'
import { giveNumbersInSteps } from './numbering.ts'
import { isOfStore, pathAndPlace } from './numbers.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { Steps } from './steps.ts'

/**
 * The first call writes the structure of the files outside the store into the layer. Later calls
 * compare with it, and compare the store paths that the layer has changed.
 *
 * @param directory of the layer
 * @throws `NetimageError` `bad-state` if names were added, removed or moved in the root tree
 */
export function* layOver(
  index: ImageIndex,
  database: LayerDatabase,
  directory: string,
  usesPath?: UsesPath,
): Steps<LayerImage> {
  const known = database.readMeta('structure')
  const structure = index.structureOf(outside)
  if (known !== undefined && known !== structure) throw changedImage(directory)
  const image = createLayerImage(index, yield* giveNumbersInSteps(index, database), usesPath)
  if (known === undefined) database.writeMeta('structure', structure)
  const changed = yield* changedPaths(database)
  for (const [number, ofPath] of changed.size > 0 ? database.structures() : []) {
    if (!changed.has(number)) continue
    const now = yield* image.structureInSteps(number)
    if (now !== undefined && now !== ofPath) throw changedImage(directory)
  }
  return image
}

/**
 * To be called in the transaction that first writes rows of these nodes.
 *
 * @throws as `LayerImage.checkPath` and `ImageIndex.structureOf`
 */
export function recordStructures(
  nodes: readonly NodeId[],
  image: LayerImage,
  database: LayerDatabase,
): void {
  const paths = new Set(nodes.filter(isOfStore).map((node) => pathAndPlace(node).path))
  for (const path of paths) {
    // Not for a path that has changed: a row would keep the whole layer from opening.
    image.checkPath(path)
    const structure =
      database.structureOf(path) === undefined ? image.structureOfPath(path) : undefined
    if (structure !== undefined) database.writeStructure(path, structure)
  }
}

export function changedImage(directory: string): NetimageError {
  return new NetimageError('bad-state', `the image below the layer ${directory} has changed`, {
    details: { file: directory },
    hint: 'Put the root tree back as it was. Or remove what the machine wrote: netimage layers reset.',
  })
}
