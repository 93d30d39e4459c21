/** Keeps what a machine may go back to in the site, while a person chooses what it boots. */
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { holdImage } from '../image/image-lock.ts'
import { sitePlaces } from '../image/site-places.ts'
import type { Life } from '../site/life/life.ts'

/**
 * Holds the images of all generations of the machine that the site has. Otherwise a garbage collection
 * could decide to remove an image before the choice, and remove it afterwards.
 *
 * @param held lets go of the images at its end
 * @throws `NetimageError` `in-use` if another command changes one of the images
 */
export async function holdGenerations(
  state: string,
  { generations }: Life,
  held: DisposableStack,
): Promise<void> {
  const ids = generations.flatMap(({ image, keptImages = [] }) => [image, ...keptImages])
  for (const id of new Set(ids)) {
    const image = await holdImage(join(sitePlaces(state).images, id)).catch(orGone)
    if (image) held.defer(() => image.release())
  }
}

function orGone(error: unknown): undefined {
  if (!(error instanceof NetimageError)) throw error
  if (error.code === 'not-an-image') return undefined
  if (error.code !== 'in-use') throw error
  throw new NetimageError('in-use', 'another command adds or removes images of the site', {
    cause: error,
    details: error.details,
    hint: 'Wait for that command to end, then run this again.',
  })
}
