/** Checks that the image of a layer is unchanged: a layer knows nodes only by their numbers. */
import { NetimageError } from '../errors.ts'
import type { LayerDatabase } from './database.ts'
import type { ImageIndex } from './image-index.ts'

/**
 * The first call writes the image's structure into the layer. Later calls compare with it.
 *
 * @param directory of the layer
 * @throws `NetimageError` `bad-state` if names were added, removed or moved in the root tree
 */
export function mustBeOver(index: ImageIndex, database: LayerDatabase, directory: string): void {
  const structure = database.readMeta('structure')
  if (structure === index.structure) return
  if (structure === undefined) return database.writeMeta('structure', index.structure)
  throw new NetimageError('bad-state', `the image below the layer ${directory} has changed`, {
    details: { file: directory },
    hint: 'Put the root tree back as it was. Or remove what the machine wrote: netimage layers reset.',
  })
}
