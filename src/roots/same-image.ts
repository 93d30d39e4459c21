/** Whether a layer is over the image that it was made over: it knows nodes by their numbers alone. */
import { NetimageError } from '../errors.ts'
import type { LayerDatabase } from './database.ts'
import type { ImageIndex } from './image-index.ts'

/**
 * The first image is that of the layer from then on.
 *
 * @param directory of the layer
 * @throws `NetimageError` `bad-state` where something came, went or moved in the image's root tree
 */
export function mustBeOver(index: ImageIndex, database: LayerDatabase, directory: string): void {
  const structure = database.readMeta('structure')
  if (structure === index.structure) return
  if (structure === undefined) return database.writeMeta('structure', index.structure)
  throw new NetimageError('bad-state', `the image below the layer ${directory} has changed`, {
    hint: 'Put its root tree back as it was, or forget what the machine wrote: netimage layers reset.',
  })
}
